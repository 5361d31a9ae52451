"""Guided Grad-CAM: guided backpropagation where Grad-CAM finds evidence, in float64."""

from __future__ import annotations

from onnxcam.arrays import Maps
from onnxcam.methods.cam import grad_cam
from onnxcam.methods.composition import guided_product
from onnxcam.methods.method import method


@method("guided-grad-cam", source="Selvaraju et al. 2017, section 3.2")
def guided_grad_cam(activation: Maps, gradient: Maps, guided_gradient: Maps) -> Maps:
    """Guided backpropagation times Grad-CAM: details of the image where the layer sees the target.

    The gradient at the image by the rules of guided backpropagation, times the map of Grad-CAM brought up to
    the image (N, C, H, W).
    """
    return guided_product(grad_cam(activation, gradient), guided_gradient)
