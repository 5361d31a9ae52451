"""Gradient times activation, cell by cell, without a mean over the cells."""

from __future__ import annotations

import numpy as np

from onnxcam.arrays import Maps, Saliency
from onnxcam.methods.cam import weighted_sum
from onnxcam.methods.method import method


@method("hires-cam", source="Draelos and Carin 2020, arXiv:2011.08891")
def hires_cam(activation: Maps, gradient: Maps) -> Saliency:
    """Every cell is weighted by its own gradient: where the score would change.

    L = relu(sum_k g_k A_k). Where a single linear layer follows, these are the terms of the score.
    """
    return weighted_sum(gradient, activation)


@method(
    "elementwise-grad-cam",
    source="Pillai and Pirsiavash 2021; pytorch-grad-cam, GradCAMElementWise",
)
def elementwise_grad_cam(activation: Maps, gradient: Maps) -> Saliency:
    """hires-cam with only the positive products.

    L = sum_k relu(g_k A_k), so that evidence against the target hides none for it.
    """
    return np.sum(np.maximum(gradient * activation, 0.0), axis=1)
