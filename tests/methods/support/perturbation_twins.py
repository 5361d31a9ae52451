"""The papers on perturbation, in float64, one window, one draw, or one subset at a time.

A twin takes a model as functions, one image x (C, H, W) and a class, and returns the map (H, W).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from onnxcam.arrays import Floats
from tests.methods.support.twins import Model, probability

Window = tuple[int, int]  # its first row and column


def windows(height: int, width: int, side: int, stride: int) -> Iterator[Window]:
    """From the upper left corner on; where the last step would leave the image, it ends at the border."""
    for top in _starts(height, side, stride):
        for left in _starts(width, side, stride):
            yield top, left


def _starts(length: int, side: int, stride: int) -> list[int]:
    starts, position = [], 0
    while position + side < length:
        starts.append(position)
        position += stride
    return [*starts, length - side]


def mean_of_windows(values: dict[Window, float], side: int, height: int, width: int) -> Floats:
    """The mean of the values of the windows around each pixel."""
    saliency = np.zeros((height, width))
    for i, j in np.ndindex(height, width):
        around = [
            value
            for (top, left), value in values.items()
            if top <= i < top + side and left <= j < left + side
        ]
        saliency[i, j] = sum(around) / len(around)
    return saliency


def occlusion(
    model: Model, x: Floats, target: int, side: int, stride: int, fill: Floats | float = 0.0
) -> Floats:
    """Zeiler and Fergus 2014: the class's loss of probability, for a square at each place."""
    _, height, width = x.shape
    before = probability(model.logits(x), target)
    losses = {}
    for top, left in windows(height, width, side, stride):
        covered = x.astype(np.float64)
        square = covered[:, top : top + side, left : left + side]
        square[:] = np.broadcast_to(fill, x.shape)[:, top : top + side, left : left + side]
        losses[top, left] = before - probability(model.logits(covered), target)
    return mean_of_windows(losses, side, height, width)
