"""The cotangent of a convolution's input, in the operators that ONNX Runtime runs fastest.

With e = d (k - 1) + 1 the extent of a kernel, an input of H cells with pads p0, p1 has
O = floor((H + p0 + p1 - e) / s) + 1 windows. They reach (O - 1) s + e - p0 - p1 cells; if these are fewer
than H, the gradient of the remaining tail is zero.
"""

from __future__ import annotations

import numpy as np

from onnxcam.arrays import Array
from onnxcam.autodiff.lowering.strided_conv import (
    RESIZE_WITHOUT_REGION,
    crop_or_pad,
    insert_zeros,
    is_stem_conv,
    static_dim,
    subpixel_conv,
)
from onnxcam.graph import anp
from onnxcam.graph.dims import is_static
from onnxcam.graph.slicing import dim_size, slice_dynamic
from onnxcam.graph.tracing import Value
from onnxcam.graph.window import Window


def conv_vjp_input(g: Value, kernel: Value, x: Value, window: Window, group: int) -> Value:
    """The cotangent (N, C, *spatial) of x, given the cotangent g of its convolution with the kernel.

    `kernel` is (M, C / group, *k), as in Conv. For stride 1 a Conv with the flipped kernel, which ONNX Runtime
    runs 1.5 to 40 times faster on CPUs than ConvTranspose. For other strides a ConvTranspose, with two
    exceptions: a depthwise convolution (the same Conv, of g with zeros between its cells, takes half the time),
    and the large kernel of a first layer (a sub-pixel convolution).
    """
    if kernel.constant is not None and _is_stride_1(window):
        return _conv_flipped(g, window, kernel.constant, group)
    if not is_static((*x.shape[2:], *g.shape[2:])):
        return _conv_transpose_dynamic(g, kernel, x, window, group)
    is_depthwise = kernel.shape[:2] == (group, 1) and g.build.opset >= RESIZE_WITHOUT_REGION
    if kernel.constant is not None and is_depthwise:
        return _conv_flipped(*insert_zeros(g, x, window), kernel.constant, group)
    if kernel.constant is not None and is_stem_conv(g, x, window, group):
        return subpixel_conv(g, x, kernel.constant, window)
    return _conv_transpose_static(g, kernel, x, window, group)


def _is_stride_1(window: Window) -> bool:
    return set(window.strides) == {1} and None not in (*window.begin, *window.end)


def _conv_flipped(g: Value, window: Window, kernel: Array, group: int) -> Value:
    """A pad p becomes e - 1 - p. If that is negative, the windows there saw no cell: their cotangents are cut
    off.
    """
    pads = [
        [extent - 1 - (pad or 0) for extent, pad in zip(window.extents, side, strict=True)]
        for side in (window.begin, window.end)
    ]
    g = crop_or_pad(g, *([max(-pad, 0) for pad in side] for side in pads))
    return g.build.op(
        "Conv",
        g,
        g.build.constant(flip_kernel(kernel, group)),
        dilations=list(window.dilations),
        group=group,
        kernel_shape=list(window.kernel),
        pads=[max(pad, 0) for side in pads for pad in side],
        strides=[1] * len(window.kernel),
    )


def flip_kernel(kernel: Array, group: int) -> Array:
    """(M, C / G, *k) -> (C, M / G, *k), every spatial axis reversed."""
    outputs, inputs, *sizes = kernel.shape
    grouped = kernel.reshape(group, outputs // group, inputs, *sizes).swapaxes(1, 2)
    spatial = tuple(range(2, 2 + len(sizes)))
    return np.flip(grouped.reshape(group * inputs, outputs // group, *sizes), spatial)


def _conv_transpose_static(g: Value, kernel: Value, x: Value, window: Window, group: int) -> Value:
    """With known sizes the tail is output_padding. Pads must be the same on both sides, or the CUDA provider
    leaves the node to the CPU; the difference, and a tail of more than one stride, is cropped or padded.
    """
    begin, end = ([int(pad or 0) for pad in side] for side in (window.begin, window.end))
    pads = [min(pair) for pair in zip(begin, end, strict=True)]
    reached = [
        (static_dim(out) - 1) * stride + extent
        for out, stride, extent in zip(g.shape[2:], window.strides, window.extents, strict=True)
    ]
    needed = [
        static_dim(size) + p0 - pad for size, p0, pad in zip(x.shape[2:], begin, pads, strict=True)
    ]  # cells from the first that the output keeps to the last of x
    missing = [n - (r - 2 * pad) for n, r, pad in zip(needed, reached, pads, strict=True)]
    tail = [
        min(max(n, 0), max(stride, dilation) - 1)
        for n, stride, dilation in zip(missing, window.strides, window.dilations, strict=True)
    ]
    cotangent = _conv_transpose(g, kernel, window, group, pads, tail)
    before = [p0 - pad for p0, pad in zip(begin, pads, strict=True)]
    after = [padding - n for n, padding in zip(missing, tail, strict=True)]
    return crop_or_pad(cotangent, before, after)


def _conv_transpose_dynamic(g: Value, kernel: Value, x: Value, window: Window, group: int) -> Value:
    """With sizes known at run time only: the longest tail, then the slice that x covers."""
    rank = len(window.kernel)
    tail = [stride - 1 for stride in window.strides]
    cotangent = _conv_transpose(g, kernel, window, group, [0] * rank, tail)
    for axis in range(rank):
        start, size = pad_before(x, window, axis), dim_size(x, axis + 2)
        cotangent = slice_dynamic(cotangent, axis + 2, start, start + size)
    return cotangent


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


def pad_before(x: Value, window: Window, axis: int) -> Value:
    """The pad before the first cell of a spatial axis, int64 (1,); computed at run time for auto_pad SAME."""
    pad, build = window.begin[axis], x.build
    if pad is not None:
        return build.constant(np.array([pad], np.int64))
    one, two = (build.constant(np.array([number], np.int64)) for number in (1, 2))
    stride = build.constant(np.array([window.strides[axis]], np.int64))
    extent = build.constant(np.array([window.extents[axis]], np.int64))
    size = dim_size(x, axis + 2)
    steps = build.op("Div", size + stride - one, stride) - one  # rounded down
    total = anp.maximum(steps * stride + extent - size, build.constant(np.zeros(1, np.int64)))
    half = build.op("Div", total, two)  # rounded down
    return half if window.upper else total - half
