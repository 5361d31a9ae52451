"""Layer-wise relevance propagation as the papers write it, in float64: one number of the output, and one of its
window, at a time.
"""

from __future__ import annotations

import numpy as np

from onnxcam.arrays import Floats
from tests.support.layered_nets import (
    Activation,
    Conv,
    Flatten,
    Layer,
    LayeredNet,
    Linear,
    MaxPool,
    Norm,
    one_hot,
)

EPSILON = 1e-6


class Constants:
    """What constants absorb, added up."""

    def __init__(self) -> None:
        self.total = 0.0


def lrp(net: LayeredNet, x: Floats, target: int) -> tuple[Floats, float]:
    """The relevance (C, H, W) of the image, and what biases absorb. A Norm belongs to the Conv before it."""
    layers, values = [*net.layers.values()], net.values(x)
    constants = Constants()
    r: Floats = one_hot(len(values[-1]), target) * values[-1]
    for number in range(len(layers) - 1, -1, -1):
        layer, value = layers[number], values[number]
        after = layers[number + 1] if number + 1 < len(layers) else None
        norm = after if isinstance(after, Norm) else None
        if isinstance(layer, Norm):
            assert isinstance(layers[number - 1], Conv), "no other Norm is merged here"
        else:
            r = relevance(layer, norm, value, r, constants, is_first=number == 0)
    return r, constants.total


def relevance(
    layer: Layer, norm: Norm | None, x: Floats, r: Floats, constants: Constants, *, is_first: bool
) -> Floats:
    """The relevance of the input x of a layer, of that of its output."""
    if isinstance(layer, Conv):
        return flat(layer, x, r) if is_first else z_plus(layer, norm, x, r, constants)
    if isinstance(layer, Linear):
        return epsilon_rule(layer, x, r, constants)
    if isinstance(layer, MaxPool | Flatten):
        return layer.vjp(x, r)
    assert isinstance(layer, Activation)
    return r


def cells_of(conv: Conv, x: Floats, row: int, column: int) -> list[tuple[int, int, int, int, int]]:
    """The cells (channel, row, column) of a window inside the image, and (i, j) in the kernel."""
    channels, height, width = x.shape
    cells = []
    for i in range(3):
        for j in range(3):
            y, z = row * conv.stride + i - 1, column * conv.stride + j - 1
            if 0 <= y < height and 0 <= z < width:
                cells += [(c, y, z, i, j) for c in range(channels)]
    return cells


def flat(conv: Conv, x: Floats, r: Floats) -> Floats:
    """Each cell of a window gets the same part."""
    result = np.zeros(x.shape)
    for k, row, column in np.ndindex(r.shape):
        cells = cells_of(conv, x, row, column)
        for c, y, z, _, _ in cells:
            result[c, y, z] += r[k, row, column] / (len(cells) + EPSILON)
    return result


def z_plus(conv: Conv, norm: Norm | None, x: Floats, r: Floats, constants: Constants) -> Floats:
    """Each cell gets the part of its positive contribution x w, and a positive bias its own."""
    result = np.zeros(x.shape)
    for k, row, column in np.ndindex(r.shape):
        scale, shift = (1.0, 0.0) if norm is None else (norm.scale[k], norm.bias[k])
        bias = max((0.0 if conv.bias is None else conv.bias[k]) * scale + shift, 0.0)
        parts = {}
        for c, y, z, i, j in cells_of(conv, x, row, column):
            contribution = x[c, y, z] * conv.weight[k, c, i, j] * scale
            if contribution > 0:
                parts[c, y, z] = contribution
        total = sum(parts.values()) + bias + EPSILON
        for cell, contribution in parts.items():
            result[cell] += contribution / total * r[k, row, column]
        constants.total += (bias + EPSILON) / total * r[k, row, column]
    return result


def epsilon_rule(linear: Linear, x: Floats, r: Floats, constants: Constants) -> Floats:
    """Each number gets the part of its contribution, of either sign."""
    result = np.zeros(x.shape)
    for k in range(len(r)):
        z = sum(linear.weight[k, c] * x[c] for c in range(len(x))) + linear.bias[k]
        z += EPSILON if z >= 0 else -EPSILON
        for c in range(len(x)):
            result[c] += x[c] * linear.weight[k, c] / z * r[k]
        constants.total += linear.bias[k] / z * r[k]
    return result


def sum_rule(a: Floats, b: Floats, r: Floats) -> tuple[Floats, Floats]:
    """Each summand gets its part of the sum."""
    parts = np.zeros((2, *r.shape))
    for index in np.ndindex(r.shape):
        z = a[index] + b[index]
        z += EPSILON if z >= 0 else -EPSILON
        parts[(0, *index)], parts[(1, *index)] = a[index] / z * r[index], b[index] / z * r[index]
    return parts[0], parts[1]


def mean_rule(x: Floats, r: Floats) -> Floats:
    """Of (C, h, w) and the relevance (C,) of its means: each cell gets its part of the sum."""
    result = np.zeros(x.shape)
    for c, i, j in np.ndindex(x.shape):
        mean = x[c].mean()
        result[c, i, j] = (
            x[c, i, j] / x[c].size / (mean + (EPSILON if mean >= 0 else -EPSILON)) * r[c]
        )
    return result
