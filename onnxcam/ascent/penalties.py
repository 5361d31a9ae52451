"""Penalties on images that no photograph looks like: large values, and differences of neighbors.

They take x (N, C, H, W), where -1 is black and 1 is white, and return a value (N,) per image and its gradient.
Both are means over the pixels, so that a weight means the same for images of any size.
"""

from __future__ import annotations

import numpy as np

from onnxcam.arrays import Floats

SMALLEST = 1e-12  # of squared differences, whose power has no derivative at 0


def power_penalty(x: Floats, power: float) -> tuple[Floats, Floats]:
    """sum_c mean |x|^power: L2 decay for 2; for 6 the norm of Mahendran and Vedaldi (2015), section 2."""
    pixels = x.shape[2] * x.shape[3]
    value = np.sum(np.abs(x) ** power, axis=(1, 2, 3)) / pixels
    return value, power * np.sign(x) * np.abs(x) ** (power - 1) / pixels


def variation_penalty(x: Floats, beta: float) -> tuple[Floats, Floats]:
    """sum_c mean (dx^2 + dy^2)^(beta/2), the total variation of Mahendran and Vedaldi (2015), eq. 3: dx and dy
    are the differences to the next pixel on the right and below, 0 at the edge.
    """
    pixels = x.shape[2] * x.shape[3]
    right, below = np.zeros_like(x), np.zeros_like(x)
    right[..., :-1] = np.diff(x, axis=3)
    below[..., :-1, :] = np.diff(x, axis=2)
    squares = np.square(right) + np.square(below)
    value = np.sum(squares ** (beta / 2), axis=(1, 2, 3)) / pixels
    slope = beta * np.maximum(squares, SMALLEST) ** (beta / 2 - 1) / pixels
    right, below = slope * right, slope * below
    gradient = -(right + below)
    gradient[..., 1:] += right[..., :-1]
    gradient[..., 1:, :] += below[..., :-1, :]
    return value, gradient
