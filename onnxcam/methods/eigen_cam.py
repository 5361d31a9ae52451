"""Eigen-CAM and its form with gradients: the first principal component over the cells of a layer."""

from __future__ import annotations

import numpy as np

from onnxcam.arrays import Maps, Saliency
from onnxcam.methods.components import deviations, first_component
from onnxcam.methods.method import method


@method(
    "eigen-cam",
    source="Muhammad and Yeasin 2020, arXiv:2008.00299; centered as in pytorch-grad-cam",
)
def eigen_cam(activation: Maps, counted: Maps) -> Saliency:
    """The direction in which the cells differ most, without a target and without a gradient.

    L = relu(P), P the first principal component of A - mean_ij A over the cells, with the sign with which it
    correlates with mean_k A.
    """
    return np.maximum(first_component(deviations(activation, counted)), 0.0)


@method("eigen-grad-cam", source="pytorch-grad-cam 1.5, EigenGradCAM")
def eigen_grad_cam(activation: Maps, gradient: Maps, counted: Maps) -> Saliency:
    """eigen-cam of gradient times activation, so that it depends on the target.

    L = relu(P), P the first principal component of g A - mean_ij (g A) over the cells, with the sign with which
    it correlates with sum_k g A; 0 if no cell of L has evidence for the target, a positive sum_k g A. Else the
    cells without evidence would stand out from a few with evidence against it.
    """
    product = gradient * activation
    saliency = np.maximum(first_component(deviations(product, counted)), 0.0)
    evidence = np.where(saliency > 0, np.sum(product, axis=1), 0.0)
    return np.where(np.max(evidence, axis=(1, 2), keepdims=True) > 0, saliency, 0.0)
