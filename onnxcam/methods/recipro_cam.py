"""Recipro-CAM: how probable the target is if the model sees the features around one cell only."""

from __future__ import annotations

import numpy as np

from onnxcam.arrays import Floats, Saliency
from onnxcam.methods.method import method


@method(
    "recipro-cam", source="Byun and Lee 2022, arXiv:2209.14074", sampler="positions", relative=True
)
def recipro_cam(sample_probabilities: Floats, grid: Saliency) -> Saliency:
    """The target's probability for the features around each cell, without a gradient.

    L_ij = relu(p(A * M_ij)), M_ij a 3 x 3 Gaussian around the cell (i, j). Only a contrast of two classes can
    be negative.
    """
    return np.reshape(np.maximum(sample_probabilities, 0.0), (-1, *grid.shape[1:]))
