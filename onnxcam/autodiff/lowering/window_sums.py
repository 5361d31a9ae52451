"""Sums over the windows of a pool, channel by channel: a convolution whose kernel holds only ones."""

from __future__ import annotations

import numpy as np

from onnxcam.autodiff.lowering.conv_vjp import conv_vjp_input
from onnxcam.errors import ModelError
from onnxcam.graph.slicing import refuse_too_many
from onnxcam.graph.tracing import Value
from onnxcam.graph.window import Window


def channels_of_sums(x: Value, window: Window, operator: str) -> int:
    """The number of channels of x. ModelError, which names the `operator`, if it is unknown or so large that
    the kernel would not fit.
    """
    channels, reader = x.shape[1], f"the {operator} that reads {x.name!r}"
    if not isinstance(channels, int):
        raise ModelError(
            f"{reader} needs a fixed number of channels; export the model with fixed sizes"
        )
    refuse_too_many(reader, channels, *window.kernel)
    return channels


def window_sum_vjp(g: Value, x: Value, window: Window, channels: int) -> Value:
    """For every cell of x the sum of g over the windows that contain it."""
    ones = g.build.constant(np.ones((channels, 1, *window.kernel)), g.dtype)
    return conv_vjp_input(g, ones, x, window, channels)
