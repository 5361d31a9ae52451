"""The cotangent of a strided convolution's input as a convolution of stride 1, for known sizes.

ONNX Runtime's CPU provider runs it faster than ConvTranspose if it is depthwise or has few channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from onnxcam.arrays import Array, Dim, Floats
from onnxcam.graph.slicing import pad_axes, pad_to
from onnxcam.graph.tracing import Value
from onnxcam.graph.window import Window

RESIZE_WITHOUT_REGION = 13  # the opset from which Resize needs no roi
MAX_STEM_CHANNELS = 4  # of an image


def insert_zeros(g: Value, x: Value, window: Window) -> tuple[Value, Window]:
    """g with s - 1 zeros after each cell, and the window of stride 1 for which x has the right size. Zeros
    after the only cell of an axis are pads of that window.
    """
    begin = [int(pad or 0) for pad in window.begin]
    outputs = [static_dim(out) for out in g.shape[2:]]
    steps = [1 if out == 1 else step for out, step in zip(outputs, window.strides, strict=True)]
    cells = [out * step for out, step in zip(outputs, steps, strict=True)]
    end = [
        count - static_dim(size) + extent - 1 - p0
        for extent, count, size, p0 in zip(window.extents, cells, x.shape[2:], begin, strict=True)
    ]
    dense = replace(window, strides=(1,) * len(end), end=tuple(end))
    if set(steps) == {1}:  # OpenVINO 2026.4 computes what follows wrong, if there is one cell
        return g, dense
    is_cell = [np.arange(count) % step == 0 for count, step in zip(cells, steps, strict=True)]
    mask = np.prod(np.meshgrid(*is_cell, indexing="ij"), axis=0)[None, None]
    return repeat_nearest(g, steps) * mask.astype(np.float64), dense


def is_stem_conv(g: Value, x: Value, window: Window, group: int) -> bool:
    """Whether a large kernel reads few channels with one stride: as in the first layer of many networks.

    There, subpixel_conv takes two thirds of ConvTranspose's time.
    """
    channels = x.shape[1]
    has_few_channels = isinstance(channels, int) and channels <= MAX_STEM_CHANNELS and group == 1
    is_planar = len(window.kernel) == 2 and len(set(window.strides)) == 1
    axes = zip(window.kernel, window.strides, window.dilations, strict=True)
    is_large = all(d == 1 and k > 2 * s for k, s, d in axes)
    return has_few_channels and is_planar and is_large and g.build.opset >= 11


def subpixel_conv(g: Value, x: Value, kernel: Array, window: Window) -> Value:
    """One Conv for the s^2 phases of x, as channels, that DepthToSpace then interleaves.

    Along an axis, phase r has the cells s q + r. These take w[t] from g at q + (r + p - t) / s, where that is
    an integer.
    """
    step = window.strides[0]
    rows, columns = (
        phase_taps(k, step, int(p or 0)) for k, p in zip(window.kernel, window.begin, strict=True)
    )
    kernels = np.einsum(
        "mcab,rxa,syb->rscmxy", kernel.astype(np.float64), rows.chosen, columns.chosen
    )
    pads = [
        (-taps.first, -(-static_dim(size) // step) - static_dim(out) + taps.last)
        for taps, size, out in zip((rows, columns), x.shape[2:], g.shape[2:], strict=True)
    ]
    begin, end = zip(*pads, strict=True)
    phases = g.build.op(
        "Conv",
        crop_or_pad(g, [max(-pad, 0) for pad in begin], [max(-pad, 0) for pad in end]),
        g.build.constant(kernels.reshape(-1, *kernels.shape[3:]), g.dtype),
        pads=[max(pad, 0) for pad in (*begin, *end)],
    )
    return pad_to(g.build.op("DepthToSpace", phases, blocksize=step, mode="DCR"), x.shape)


@dataclass(frozen=True)
class Taps:
    """The cells of g that the phases of an axis take: chosen[r, i, t] is 1 for w[t] on cell q + first + i."""

    first: int
    last: int
    chosen: Floats


def phase_taps(size: int, step: int, pad: int) -> Taps:
    """The taps of an axis: q + (r + p - t) / s, where that is an integer."""
    phase, tap = np.ogrid[:step, :size]
    distance = phase + pad - tap
    first, last = -(-int(distance.min()) // step), int(distance.max()) // step
    offsets = np.arange(first, last + 1)[None, :, None]
    return Taps(first, last, (distance[:, None] == step * offsets).astype(np.float64))


def repeat_nearest(value: Value, factors: Sequence[int]) -> Value:
    """Each cell repeated along the spatial axes; needs opset 13."""
    scales = value.build.constant(np.array([1, 1, *factors], np.float32))
    return value.build.op(
        "Resize",
        value,
        None,
        scales,
        mode="nearest",
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
        shape=(
            *value.shape[:2],
            *(static_dim(size) * n for size, n in zip(value.shape[2:], factors, strict=True)),
        ),
    )


def crop_or_pad(value: Value, begin: Sequence[int], end: Sequence[int]) -> Value:
    """The value without these numbers of cells at the ends of its spatial axes; negative ones add zeros."""
    return pad_axes(value, [0, 0, *(-cells for cells in begin)], [0, 0, *(-cells for cells in end)])


def static_dim(dim: Dim) -> int:
    """A dimension that the caller knows to be a number."""
    assert isinstance(dim, int)  # noqa: S101
    return dim
