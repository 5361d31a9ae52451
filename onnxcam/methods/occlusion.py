"""Occlusion: how much less probable the target is if a window of the image is hidden."""

from __future__ import annotations

import numpy as np

from onnxcam.arrays import Floats, Maps, Saliency
from onnxcam.methods.method import method


def mean_over_windows(values: Floats, window_rows: Maps, window_columns: Maps) -> Saliency:
    """(N, windows) -> (N, H, W): the mean of the values of all windows that contain a pixel. A window has a row
    and a column; their weights are (N, rows, H) and (N, columns, W).
    """
    grid = np.reshape(values, (-1, window_rows.shape[1], window_columns.shape[1]))
    return np.matmul(np.matmul(np.swapaxes(window_rows, 1, 2), grid), window_columns)


@method(
    "occlusion",
    source="Zeiler and Fergus 2014, section 4.2",
    sampler="windows",
    at="image",
    signed=True,
)
def occlusion(
    probability: Floats, sample_probabilities: Floats, window_rows: Maps, window_columns: Maps
) -> Saliency:
    """The target's loss of probability if a window of the image is hidden, without a gradient.

    The mean of p_c(x) - p_c(x without the window) over the windows that contain a pixel (N, H, W).
    """
    losses = np.expand_dims(probability, 1) - sample_probabilities
    return mean_over_windows(losses, window_rows, window_columns)
