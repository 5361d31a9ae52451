"""LRN: normalization over neighboring channels."""

from __future__ import annotations

import numpy as np

from onnxcam.arrays import Floats
from onnxcam.autodiff.rule_table import Rules
from onnxcam.errors import ModelError
from onnxcam.graph.slicing import refuse_too_many
from onnxcam.graph.tracing import Value

rules = Rules()


def lrn_vjp(
    g: Value, y: Value, x: Value, *, size: int, alpha: float, beta: float, bias: float
) -> Value:
    """LRN-13, y = x D^-beta with D = bias + alpha/n W(x^2): g D^-beta - 2 alpha beta/n x W'(g x D^(-beta - 1)).

    W is the sum over a window of n channels, W' the sum over the mirrored window. Since opset 1.
    """
    window = window_matrix(x, size)
    divisor = bias + (alpha / size) * mix_channels(x * x, window)
    inner = g * x * divisor ** (-beta - 1.0)
    return g * divisor**-beta - (2 * alpha * beta / size) * x * mix_channels(inner, window.T)


def window_matrix(x: Value, size: int) -> Floats:
    """1 where channel j is in the window of channel i: from floor((n-1)/2) before it to ceil((n-1)/2) after."""
    channels = x.shape[1]
    if not isinstance(channels, int):
        raise ModelError(
            f"the LRN that reads {x.name!r} needs a fixed number of channels; "
            "export the model with fixed sizes"
        )
    refuse_too_many(f"the LRN that reads {x.name!r}", channels, channels)
    offset = np.arange(channels)[None] - np.arange(channels)[:, None]
    return ((offset >= -((size - 1) // 2)) & (offset <= size // 2)).astype(np.float64)


def mix_channels(value: Value, matrix: Floats) -> Value:
    """The matrix applied to the channels of every pixel."""
    kernel = value.build.constant(
        matrix.reshape(*matrix.shape, *([1] * (value.ndim - 2))), value.dtype
    )
    return value.build.op("Conv", value, kernel)


rules.vjp("LRN", lrn_vjp)
