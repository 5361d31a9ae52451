"""XGrad-CAM: gradients weighted by the share of each cell in its feature map."""

from __future__ import annotations

import numpy as np

from onnxcam.arrays import Maps, Saliency
from onnxcam.methods.cam import CELLS, weighted_sum
from onnxcam.methods.method import method

CANCELED = 1e-6  # of the sum of the magnitudes: a smaller sum is a rounding error of float32


@method("xgrad-cam", source="Fu et al. 2020, arXiv:2008.02312")
def xgrad_cam(activation: Maps, gradient: Maps) -> Saliency:
    """w_k is the mean of the gradient over the cells, weighted by their values.

    L = relu(sum_k w_k A_k), w_k = sum_ij g_ij A_ij / sum_ij A_ij; 0 for a feature map whose values cancel.
    """
    mass, magnitude, product = (
        np.sum(part, axis=CELLS, keepdims=True)
        for part in (activation, np.abs(activation), gradient * activation)
    )
    is_canceled = np.abs(mass) <= CANCELED * magnitude
    return weighted_sum(product / np.where(is_canceled, np.inf, mass), activation)
