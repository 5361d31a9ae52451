"""The formulas of papers at a layer, in float64, one cell at a time.

A twin takes a model as functions, one image x (C, H, W) and a class, and returns the map (h, w).
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from onnxcam.arrays import Floats

GAUSSIAN = np.array([[1, 2, 1], [2, 4, 2], [1, 2, 1]]) / 16
CELL = np.array([[0, 0, 0], [0, 1, 0], [0, 0, 0]])
STEP = 1e-4  # of the differences for second derivatives


class Model(Protocol):
    """A classifier; the gradients are those of one logit."""

    def logits(self, x: Floats) -> Floats: ...

    def gradient(self, x: Floats, target: int) -> Floats: ...

    def features(self, x: Floats) -> Floats: ...

    def head(self, features: Floats) -> Floats: ...

    def head_gradient(self, features: Floats, target: int) -> Floats: ...


def probability(logits: Floats, target: int) -> float:
    """Softmax."""
    return float(1 / sum(np.exp(logit - logits[target]) for logit in logits))


def activation_map(model: Model, x: Floats, target: int) -> Floats:
    """relu(mean_k A_k)."""
    activation = model.features(x)
    channels, height, width = activation.shape
    saliency = np.zeros((height, width))
    for i, j in np.ndindex(height, width):
        saliency[i, j] = max(0.0, sum(activation[k, i, j] for k in range(channels)) / channels)
    return saliency


def layer_cam(model: Model, x: Floats, target: int) -> Floats:
    """Jiang et al. 2021, eq. 6 to 8: every cell has a weight of its own, relu of its gradient."""
    activation = model.features(x)
    g = model.head_gradient(activation, target)
    channels, height, width = activation.shape
    saliency = np.zeros((height, width))
    for i, j in np.ndindex(height, width):
        total = 0.0
        for k in range(channels):
            total += max(0.0, g[k, i, j]) * activation[k, i, j]
        saliency[i, j] = max(0.0, total)
    return saliency


def shapley_cam(model: Model, x: Floats, target: int) -> Floats:
    """Cai 2025: w_k = mean_ij (g - 1/2 H A), with H A as the difference of gradients along A."""
    activation = model.features(x)
    g = model.head_gradient(activation, target)
    further = model.head_gradient(activation * (1 + STEP), target)
    nearer = model.head_gradient(activation * (1 - STEP), target)
    channels, height, width = activation.shape
    saliency = np.zeros((height, width))
    for k in range(channels):
        weight = 0.0
        for i, j in np.ndindex(height, width):
            curvature = (further[k, i, j] - nearer[k, i, j]) / (2 * STEP)
            weight += (g[k, i, j] - curvature / 2) / (height * width)
        saliency += weight * activation[k]
    return np.maximum(saliency, 0.0)


def recipro_cam(model: Model, x: Floats, target: int, kernel: Floats = GAUSSIAN) -> Floats:
    """Byun and Lee 2022: the class's probability for the features around one cell only. A cell at the border
    has the part of the kernel that lies inside.
    """
    activation = model.features(x)
    _, height, width = activation.shape
    saliency = np.zeros((height, width))
    for i, j in np.ndindex(height, width):
        mask = np.zeros((height, width))
        for dy, dx in np.ndindex(3, 3):
            row, column = i + dy - 1, j + dx - 1
            if 0 <= row < height and 0 <= column < width:
                mask[row, column] = kernel[dy, dx]
        saliency[i, j] = probability(model.head(activation * mask), target)
    return saliency
