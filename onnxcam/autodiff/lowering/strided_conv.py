"""The cotangent of what a strided convolution reads, as a convolution: ONNX Runtime's CPU provider runs that
faster than ConvTranspose where channels are few or each is by itself. All sizes are known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from onnxcam.arrays import Array, Floats
from onnxcam.graph.slicing import pad_axes, pad_to
from onnxcam.graph.value import Value, np
from onnxcam.graph.window import Window

RESIZE_WITHOUT_REGION = 13  # the opset


def insert_zeros(g: Value, x: Value, window: Window) -> tuple[Value, Window]:
    """g with s - 1 zeros behind each cell, and the window of step 1 that leaves as many cells of x."""
    begin = [int(each or 0) for each in window.begin]
    steps = zip(window.extents, window.strides, g.shape[2:], x.shape[2:], begin, strict=True)
    end = [
        stride * static_dim(out) - static_dim(size) + extent - 1 - p0
        for extent, stride, out, size, p0 in steps
    ]
    walk = replace(window, strides=(1,) * len(end), end=tuple(end))
    places = [
        np.arange(static_dim(n) * s) % s == 0
        for n, s in zip(g.shape[2:], window.strides, strict=True)
    ]
    here = np.prod(np.meshgrid(*places, indexing="ij"), axis=0)[None, None]
    return repeat_nearest(g, window.strides) * here.astype(np.float64), walk


def is_stem_conv(g: Value, x: Value, window: Window, group: int) -> bool:
    """A large kernel on few channels with one stride: in phases it takes two thirds of ConvTranspose's time."""
    few = isinstance(x.shape[1], int) and x.shape[1] <= 4 and group == 1 and g.build.opset >= 11
    planar = len(window.kernel) == 2 and len(set(window.strides)) == 1
    sizes = zip(window.kernel, window.strides, window.dilations, strict=True)
    return few and planar and all(d == 1 and k > 2 * s for k, s, d in sizes)


def subpixel_conv(g: Value, x: Value, kernel: Array, window: Window) -> Value:
    """The cells of x at s q + r come out of a Conv of their own, for every r; one Conv has all of them, and
    DepthToSpace puts them side by side. Cell q takes w[t] from g at q + (r + p - t) / s, where that is whole.
    """
    step = window.strides[0]
    rows, columns = (
        phase_taps(k, step, int(p or 0)) for k, p in zip(window.kernel, window.begin, strict=True)
    )
    kernels = np.einsum(
        "mcab,rxa,syb->rscmxy", kernel.astype(np.float64), rows.chosen, columns.chosen
    )
    pads = [
        (-each.first, -(-static_dim(n) // step) - static_dim(m) + each.last)
        for each, n, m in zip((rows, columns), x.shape[2:], g.shape[2:], strict=True)
    ]
    given = crop_or_pad(g, *([max(-each, 0) for each in side] for side in zip(*pads, strict=True)))
    found = g.build.op(
        "Conv",
        given,
        g.build.constant(kernels.reshape(-1, *kernels.shape[3:]), g.dtype),
        pads=[max(each, 0) for side in zip(*pads, strict=True) for each in side],
    )
    return pad_to(g.build.op("DepthToSpace", found, blocksize=step, mode="DCR"), x.shape)


@dataclass(frozen=True)
class Taps:
    """Which cells of g the phases of an axis of x take: chosen[r, i, t] is 1 for w[t] on cell q + first + i."""

    first: int
    last: int
    chosen: Floats


def phase_taps(size: int, step: int, pad: int) -> Taps:
    """The taps of an axis: q + (r + p - t) / s, where that is whole."""
    phase, tap = np.ogrid[:step, :size]
    ahead = phase + pad - tap
    first, last = -(-int(ahead.min()) // step), int(ahead.max()) // step
    places = np.arange(first, last + 1)[None, :, None]
    return Taps(first, last, (ahead[:, None] == step * places).astype(np.float64))


def repeat_nearest(value: Value, factors: Sequence[int]) -> Value:
    """Every cell repeated along the spatial axes; from opset 13."""
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
            *(static_dim(n) * s for n, s in zip(value.shape[2:], factors, strict=True)),
        ),
    )


def crop_or_pad(value: Value, begin: list[int], end: list[int]) -> Value:
    """Without that many cells on either side of the spatial axes; negative numbers add zeros."""
    return pad_axes(value, [0, 0, *(-each for each in begin)], [0, 0, *(-each for each in end)])


def static_dim(dim: int | str | None) -> int:
    """A dimension that is known to be one."""
    assert isinstance(dim, int)  # noqa: S101  the caller has looked
    return dim
