"""Convolutions: the gradient of one is the other with the same kernel."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onnxcam.autodiff.lowering.conv_vjp import conv_vjp_input
from onnxcam.autodiff.lowering.strided_conv import crop_or_pad, static_dim
from onnxcam.autodiff.rule_table import Rules
from onnxcam.errors import ModelError
from onnxcam.graph.dims import is_static
from onnxcam.graph.tracing import Value
from onnxcam.graph.window import Window

rules = Rules()


def _require_window(window: Window | None, kernel: Value) -> Window:
    """The window of a node; ModelError if it is not known."""
    if window is None:
        raise ModelError(
            f"the size of the kernel {kernel.name!r} cannot be inferred; export the model with fixed weights"
        )
    return window


def conv_vjp(
    g: Value, y: Value, x: Value, w: Value, b: Value | None, *, window: Window | None, group: int
) -> Value:
    """The transposed convolution of g with the same kernel."""
    return conv_vjp_input(g, w, x, _require_window(window, w), group)


rules.vjp("Conv", conv_vjp)  # no function for w and b: explanations never need them


def conv_transpose_vjp(
    g: Value,
    y: Value,
    x: Value,
    w: Value,
    b: Value | None,
    *,
    window: Window | None,
    group: int,
    auto_pad: str,
    output_padding: list[int] | None,
    output_shape: list[int] | None,
) -> Value:
    """The convolution of g with the same kernel: H windows, s apart, the first at -p0."""
    window = _require_window(window, w)
    begin, end = _pads(x, window, auto_pad, output_padding, output_shape)
    cotangent = g.build.op(
        "Conv",
        g,
        w,
        dilations=list(window.dilations),
        group=group,
        kernel_shape=list(window.kernel),
        pads=[*begin, *end],
        strides=list(window.strides),
    )
    windows, sizes = cotangent.shape[2:], x.shape[2:]
    if not is_static((*windows, *sizes)):
        return cotangent
    # an output_shape beyond what the windows reach has room for more windows than cells
    surplus = [static_dim(n) - static_dim(size) for n, size in zip(windows, sizes, strict=True)]
    return crop_or_pad(cotangent, [0] * len(surplus), surplus)


def _pads(
    x: Value,
    window: Window,
    auto_pad: str,
    output_padding: list[int] | None,
    output_shape: list[int] | None,
) -> tuple[Sequence[int], Sequence[int]]:
    """What a ConvTranspose cuts off at both ends of s (H - 1) + tail + e cells to get the requested size."""
    rank = len(window.kernel)
    if auto_pad == "VALID" and not output_shape:
        return [0] * rank, [0] * rank
    if auto_pad == "NOTSET" and not output_shape:
        return [int(pad or 0) for pad in window.begin], [int(pad or 0) for pad in window.end]
    tail = np.array(output_padding or [0] * rank) + window.extents
    if output_shape:
        if not is_static(x.shape[2:]):
            raise ModelError(
                f"the ConvTranspose that reads {x.name!r} has an output_shape, so it needs fixed sizes; "
                "export the model with fixed sizes"
            )
        cells = (np.array([static_dim(size) for size in x.shape[2:]]) - 1) * window.strides + tail
        total = np.maximum(cells - output_shape[-rank:], 0)
    else:  # the size for SAME is s H
        total = np.maximum(tail - window.strides, 0)
    smaller, larger = (total // 2).tolist(), (total - total // 2).tolist()
    return (smaller, larger) if auto_pad == "SAME_UPPER" else (larger, smaller)


rules.vjp("ConvTranspose", conv_transpose_vjp)
