"""AveragePool: each cotangent is shared by the cells that its window counts."""

from __future__ import annotations

from typing import Any

import numpy as np

from onnxcam.arrays import Floats
from onnxcam.autodiff.lowering.axes import divide_evenly, spatial_axes
from onnxcam.autodiff.lowering.conv_vjp import pad_before
from onnxcam.autodiff.lowering.strided_conv import RESIZE_WITHOUT_REGION, repeat_nearest
from onnxcam.autodiff.lowering.window_sums import channels_of_sums, window_sum_vjp
from onnxcam.autodiff.rule_table import Rules
from onnxcam.errors import ModelError
from onnxcam.graph import anp
from onnxcam.graph.dims import is_static
from onnxcam.graph.slicing import arange, dim_size, pad_to, refuse_too_many
from onnxcam.graph.tracing import Value
from onnxcam.graph.window import Window

rules = Rules()


def average_pool_vjp(
    g: Value, y: Value, x: Value, *, window: Window, count_include_pad: int
) -> Value:
    """AveragePool-22, y = sum x / n over each window: the sum of g / n over the windows of x. Since opset 1."""
    if _is_one_window(x, window) and not _is_tiling(g, x, window):
        return divide_evenly(g, x, spatial_axes(x))
    channels = channels_of_sums(x, window, "AveragePool")
    share = g / count_cells(x, y, window, bool(count_include_pad))
    if _is_tiling(g, x, window):
        return pad_to(repeat_nearest(share, window.strides), x.shape)
    return window_sum_vjp(share, x, window, channels)


def _is_one_window(x: Value, window: Window) -> bool:
    """Whether one window has all cells, so that the pool is a global one: no kernel of ones is needed."""
    pads = (*window.begin, *window.end)
    return window.kernel == tuple(x.shape[2:]) and not any(
        (*pads, *(d - 1 for d in window.dilations))
    )


def _is_tiling(g: Value, x: Value, window: Window) -> bool:
    """Whether windows start at the first cell and neither overlap nor leave gaps: then shares are repeated."""
    return (
        g.build.opset >= RESIZE_WITHOUT_REGION
        and is_static((*g.shape[2:], *x.shape[2:]))
        and window.kernel == window.strides
        and not any((*window.begin, *(dilation - 1 for dilation in window.dilations)))
    )


def count_cells(x: Value, y: Value, window: Window, include_pad: bool) -> Floats | Value | float:
    """The number n of cells that each window counts: over the spatial axes of y, or one number for all windows.

    Where ceil_mode lets a window extend beyond the pads, it counts no cells there.
    """
    rank = len(window.kernel)
    if include_pad and not window.ceil:
        return float(np.prod(window.kernel))
    total: Any = 1.0
    for axis in range(rank):
        counts = _count_along_axis(x, y, axis, window, include_pad)
        total = total * anp.reshape(counts, [-1 if i == axis else 1 for i in range(rank)])
    if isinstance(total, Value):
        return total
    if not np.size(total):
        raise ModelError(
            f"the AveragePool that reads {x.name!r} has an empty output; use larger images"
        )
    return float(total.flat[0]) if np.all(total == total.flat[0]) else total


def _count_along_axis(x: Value, y: Value, axis: int, window: Window, include_pad: bool) -> Any:
    """The number (O,) of cells that windows count along one axis: an array, or a Value if a size is unknown."""
    size, out = x.shape[axis + 2], y.shape[axis + 2]
    rows = out if isinstance(out, int) else 1
    refuse_too_many(f"the AveragePool that reads {x.name!r}", rows, window.kernel[axis])
    positions: Any
    length: Any
    if isinstance(size, int) and isinstance(out, int):
        positions, length = np.arange(out)[:, None], size
    else:
        length = dim_size(x, axis + 2)
        positions = anp.expand_dims(arange(dim_size(y, axis + 2)), 1)
    begin, end = window.begin[axis], window.end[axis]
    before: Any = begin if begin is not None else pad_before(x, window, axis)
    cells = positions * window.strides[axis] - before
    cells = cells + np.arange(window.kernel[axis]) * window.dilations[axis]
    low, high = (-before, length + (end or 0)) if include_pad else (0, length)
    is_inside = anp.logical_and(cells >= low, cells < high)
    return anp.sum(is_inside.astype(x.dtype), axis=1)


rules.vjp("AveragePool", average_pool_vjp)
