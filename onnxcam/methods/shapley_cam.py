"""ShapleyCAM: Grad-CAM with the curvature of the score."""

from __future__ import annotations

import numpy as np

from onnxcam.arrays import Maps, Saliency
from onnxcam.methods.cam import CELLS, weighted_sum
from onnxcam.methods.method import method


@method("shapley-cam", source="Cai 2025, arXiv:2501.06261")
def shapley_cam(activation: Maps, gradient: Maps, hvp: Maps) -> Saliency:
    """w_k is the mean of the gradient minus half the Hessian of the score times the activation.

    L = relu(sum_k w_k A_k), w_k = mean_ij (g - 1/2 H A): the Shapley values of the feature maps, for a score
    that is expanded to second order. H A counts class tokens, too, where there are some. Where the model after
    the layer is piecewise linear H is 0, and it is Grad-CAM.
    """
    slope, curvature = (np.mean(part, axis=CELLS, keepdims=True) for part in (gradient, hvp))
    return weighted_sum(slope - 0.5 * curvature, activation)
