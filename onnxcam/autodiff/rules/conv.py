"""Convolutions. With e = d (k - 1) + 1 the extent of a kernel, an input of H cells and pads p0, p1 leaves
O = floor((H + p0 + p1 - e) / s) + 1; the (O - 1) s + e - p0 - p1 cells that windows reach may be fewer than
H, and the gradient of that tail is zero.
"""

from __future__ import annotations

import onnx_graphsurgeon as gs

from onnxcam.arrays import Array, Floats
from onnxcam.autodiff.lowering.strided_conv import (
    RESIZE_WITHOUT_REGION,
    crop_or_pad,
    insert_zeros,
    is_stem_conv,
    static_dim,
    subpixel_conv,
)
from onnxcam.autodiff.rule_table import Rules
from onnxcam.errors import ModelError
from onnxcam.graph.slicing import dim_size, slice_dynamic
from onnxcam.graph.value import Value, np
from onnxcam.graph.window import Window

rules = Rules()


def conv_vjp_input(g: Value, kernel: Value, x: Value, window: Window, group: int) -> Value:
    """The cotangent (N, C, *spatial) of x, given that of its convolution with the kernel.

    `kernel` is (M, C / group, *k) as Conv has it. Stride 1: a Conv with the kernel flipped, which
    ONNX Runtime runs 1.5 to 40 times faster on CPUs than ConvTranspose; else ConvTranspose, unless every
    channel is by itself: then the same Conv of g with zeros between its cells takes half as long. The first
    layer's large kernel has a form of its own, too.
    """
    if kernel.constant is not None and _is_convolution(window):
        return _flipped_convolution(g, window, kernel.constant, group)
    sizes = x.shape[2:]
    if all(isinstance(each, int) for each in (*sizes, *g.shape[2:])):
        alone = kernel.shape[:2] == (group, 1) and g.build.opset >= RESIZE_WITHOUT_REGION
        if kernel.constant is not None and alone:
            return _flipped_convolution(*insert_zeros(g, x, window), kernel.constant, group)
        if kernel.constant is not None and is_stem_conv(g, x, window, group):
            return subpixel_conv(g, x, kernel.constant, window)
        return _transposed(g, kernel, x, window, group)
    return _transposed_to_size(g, kernel, x, window, group)


def _is_convolution(window: Window) -> bool:
    return set(window.strides) == {1} and None not in (*window.begin, *window.end)


def flipped(kernel: Array, group: int) -> Array:
    """(M, C / G, *k) -> (C, M / G, *k), every spatial axis reversed."""
    out, inner, *sizes = kernel.shape
    grouped = kernel.reshape(group, out // group, inner, *sizes).swapaxes(1, 2)
    spatial = tuple(range(2, 2 + len(sizes)))
    return np.flip(grouped.reshape(group * inner, out // group, *sizes), spatial)


def _flipped_convolution(g: Value, window: Window, kernel: Array, group: int) -> Value:
    """Pads beyond the kernel's reach, e - 1, make windows that see nothing: their cotangents are cut off."""
    pads = [
        [extent - 1 - (pad or 0) for extent, pad in zip(window.extents, side, strict=True)]
        for side in (window.begin, window.end)
    ]
    g = crop_or_pad(g, *([max(-each, 0) for each in side] for side in pads))
    turned = g.build.constant(flipped(kernel, group))
    return g.build.op(
        "Conv",
        g,
        turned,
        dilations=list(window.dilations),
        group=group,
        kernel_shape=list(window.kernel),
        pads=[max(each, 0) for side in pads for each in side],
        strides=[1] * len(window.kernel),
    )


def _conv_transpose(
    g: Value, kernel: Value, window: Window, group: int, pads: list[int], tail: list[int]
) -> Value:
    return g.build.op(
        "ConvTranspose",
        g,
        kernel,
        dilations=list(window.dilations),
        group=group,
        kernel_shape=list(window.kernel),
        output_padding=tail,
        pads=pads * 2,
        strides=list(window.strides),
    )


def _transposed(g: Value, kernel: Value, x: Value, window: Window, group: int) -> Value:
    """Sizes are known: the tail is output_padding. Pads must be even on both sides, or the CUDA provider
    leaves the node to the CPU: what is uneven, or more than one step of tail, is cut or padded.
    """
    begin, end = ([int(each or 0) for each in side] for side in (window.begin, window.end))
    even = [min(pair) for pair in zip(begin, end, strict=True)]
    reached = [
        (static_dim(out) - 1) * stride + extent
        for out, stride, extent in zip(g.shape[2:], window.strides, window.extents, strict=True)
    ]
    wanted = [
        static_dim(size) + p0 - p for size, p0, p in zip(x.shape[2:], begin, even, strict=True)
    ]  # cells from the first that is kept to the last of x
    slack = [need - (have - 2 * p) for need, have, p in zip(wanted, reached, even, strict=True)]
    tail = [
        min(max(each, 0), max(s, d) - 1)
        for each, s, d in zip(slack, window.strides, window.dilations, strict=True)
    ]
    found = _conv_transpose(g, kernel, window, group, even, tail)
    left = [p0 - p for p0, p in zip(begin, even, strict=True)]
    over = [more - each for each, more in zip(slack, tail, strict=True)]
    return crop_or_pad(found, left, over)


def _transposed_to_size(g: Value, kernel: Value, x: Value, window: Window, group: int) -> Value:
    """Sizes are known at run time only: more tail than is needed, then the piece that x covers."""
    rank = len(window.kernel)
    tail = [stride - 1 for stride in window.strides]
    found = _conv_transpose(g, kernel, window, group, [0] * rank, tail)
    for axis in range(rank):
        start, size = first_cell(x, window, axis), dim_size(x, axis + 2)
        found = slice_dynamic(found, axis + 2, start, start + size)
    return found


def first_cell(x: Value, window: Window, axis: int) -> Value:
    """The pad before the first cell of an axis, int64 (1,); worked out at run time for SAME."""
    known, build = window.begin[axis], x.build
    if known is not None:
        return build.constant(np.array([known], np.int64))
    one, two = (build.constant(np.array([each], np.int64)) for each in (1, 2))
    stride = build.constant(np.array([window.strides[axis]], np.int64))
    extent = build.constant(np.array([window.extents[axis]], np.int64))
    size = dim_size(x, axis + 2)
    steps = (size + stride - one) / stride - one
    total = np.maximum(steps * stride + extent - size, build.constant(np.zeros(1, np.int64)))
    return total / two if window.upper else total - total / two


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
