"""Convolutions: the gradient of one is the other with the same kernel."""

from __future__ import annotations

import onnx_graphsurgeon as gs

from onnxcam.arrays import Floats
from onnxcam.autodiff.lowering.conv_vjp import conv_vjp_input
from onnxcam.autodiff.lowering.strided_conv import crop_or_pad, static_dim
from onnxcam.autodiff.rule_table import Rules
from onnxcam.errors import ModelError
from onnxcam.graph.value import Value, np
from onnxcam.graph.window import Window

rules = Rules()


def conv_input(
    g: Value, y: Value, x: Value, w: Value, b: Value | None, *, window: Window | None, group: int
) -> Value:
    """The transposed convolution of g with the same kernel."""
    if window is None:
        raise ModelError(f"the size of the kernel {w.name!r} cannot be worked out")
    return conv_vjp_input(g, w, x, window, group)


rules.vjp("Conv", conv_input)  # no function for w and b: explanations never ask for them


def scale_channels(g: Value, factors: Floats) -> Value:
    """g times a number a channel: at no cost in the kernel of the Conv that wrote g, behind a mask or not."""
    written = writer(g)
    if written is not None and written.op == "Mul":
        before, mask = (Value(g.build, each) for each in written.inputs)
        scaled = _by_kernel(before, factors)
        if scaled is not None:
            return scaled * mask
    scaled = _by_kernel(g, factors)
    return g * _by_channel(factors, g.ndim - 1) if scaled is None else scaled


def writer(value: Value) -> gs.Node | None:
    """The node that writes a value, unless others read it as well."""
    alone = len(value.tensor.inputs) == 1 and len(value.tensor.outputs) < 2
    return value.tensor.inputs[0] if alone else None


def _by_channel(factors: Floats, rank: int) -> Floats:
    return factors.reshape(-1, *[1] * (rank - 1))


def _by_kernel(g: Value, factors: Floats) -> Value | None:
    node = writer(g)
    if node is None or node.op != "Conv" or len(node.inputs) != 2:
        return None
    before, kernel = (Value(g.build, each) for each in node.inputs)
    if kernel.constant is None:
        return None
    scaled = kernel.constant.astype(np.float64) * _by_channel(factors, g.ndim)
    return g.build.op("Conv", before, g.build.constant(scaled, g.dtype), **node.attrs)


def conv_transpose_input(
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
    """The convolution of g with the same kernel: H windows, s apart, the first at -p0.

    The pads are those of the output: sizes that are asked for are met by pads.
    """
    if window is None:
        raise ModelError(f"the size of the kernel {w.name!r} cannot be worked out")
    begin, end = _transposed_pads(x, window, auto_pad, output_padding, output_shape)
    found = g.build.op(
        "Conv",
        g,
        w,
        dilations=list(window.dilations),
        group=group,
        kernel_shape=list(window.kernel),
        pads=begin + end,
        strides=list(window.strides),
    )
    windows, sizes = found.shape[2:], x.shape[2:]
    if all(isinstance(each, int) for each in (*windows, *sizes)):
        # an output_shape beyond what windows reach has room for more of them
        over = [
            static_dim(have) - static_dim(size) for have, size in zip(windows, sizes, strict=True)
        ]
        found = crop_or_pad(found, [0] * len(over), over)
    return found


def _transposed_pads(
    x: Value,
    window: Window,
    auto_pad: str,
    output_padding: list[int] | None,
    output_shape: list[int] | None,
) -> tuple[list[int], list[int]]:
    """What a ConvTranspose cuts off: n = s (H - 1) + tail + e cells less the size that is asked for."""
    rank = len(window.kernel)
    if auto_pad == "VALID" and not output_shape:
        return [0] * rank, [0] * rank
    if auto_pad == "NOTSET" and not output_shape:
        begin, end = ([int(each or 0) for each in side] for side in (window.begin, window.end))
        return begin, end
    tail = np.array(output_padding or [0] * rank) + window.extents
    if output_shape:
        if not all(isinstance(each, int) for each in x.shape[2:]):
            raise ModelError(f"ConvTranspose of {x.name!r} to an output_shape needs fixed sizes")
        steps = (np.array(x.shape[2:]) - 1) * window.strides
        total = np.maximum(steps + tail - output_shape[-rank:], 0)
    else:  # SAME asks for s H
        total = np.maximum(tail - window.strides, 0)
    less, more = (total // 2).tolist(), (total - total // 2).tolist()
    return (less, more) if auto_pad == "SAME_UPPER" else (more, less)


rules.vjp("ConvTranspose", conv_transpose_input)
