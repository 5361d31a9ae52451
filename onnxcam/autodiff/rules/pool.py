"""Pooling over windows."""

from __future__ import annotations

from typing import Any

from onnxcam.arrays import Floats
from onnxcam.autodiff.lowering.conv_vjp import conv_vjp_input, pad_before
from onnxcam.autodiff.lowering.strided_conv import RESIZE_WITHOUT_REGION, repeat_nearest
from onnxcam.autodiff.rule_table import Rules
from onnxcam.errors import ModelError
from onnxcam.graph.dims import is_static
from onnxcam.graph.slicing import broadcast_like, dim_size, full_like, pad_to, refuse_too_many
from onnxcam.graph.value import Value, np
from onnxcam.graph.window import Window

rules = Rules()


def max_pool(g: Value, y: Value, x: Value, *, storage_order: int | None) -> Value:
    """Each cotangent goes to the first maximum of its window, which the pool itself is asked for.

    The indices count over the whole tensor. Windows that overlap may name a cell twice: the
    accumulation must be exact, which ScatterElements is and ScatterND is not.
    """
    if storage_order:  # indices that count down the columns: another pool counts along the rows
        given = {n: each for n, each in y.tensor.inputs[0].attrs.items() if n != "storage_order"}
        y = y.build.ops("MaxPool", x, outputs=2, **given)[0]
    indices = y.build.second_output(y, np.dtype(np.int64))
    blank, where, what = (np.reshape(each, [-1]) for each in (full_like(x, 0.0), indices, g))
    summed = g.build.op("ScatterElements", blank, where, what, axis=0, reduction="add")
    return g.build.op("Reshape", summed, g.build.shape_of(x), shape=x.shape)


rules.vjp("MaxPool", max_pool)


def average_pool(g: Value, y: Value, x: Value, *, window: Window, count_include_pad: int) -> Value:
    """Each cotangent is shared among the cells that were counted."""
    channels = x.shape[1]
    if not isinstance(channels, int):
        raise ModelError(f"AveragePool of {x.name!r}: its number of channels must be fixed")
    refuse_too_many(f"AveragePool of {x.name!r}", channels, *window.kernel)
    shared = g / counts(x, y, window, bool(count_include_pad))
    if _side_by_side(g, x, window):
        return pad_to(repeat_nearest(shared, window.strides), x.shape)
    ones = g.build.constant(np.ones((channels, 1, *window.kernel)), g.dtype)
    return conv_vjp_input(shared, ones, x, window, channels)


def _side_by_side(g: Value, x: Value, window: Window) -> bool:
    """Whether windows neither overlap nor leave gaps, from the first cell on: each repeats its share."""
    return (
        g.build.opset >= RESIZE_WITHOUT_REGION
        and is_static((*g.shape[2:], *x.shape[2:]))
        and window.kernel == window.strides
        and not any((*window.begin, *(d - 1 for d in window.dilations)))
    )


def counts(x: Value, y: Value, window: Window, include_pad: bool) -> Floats | Value | float:
    """How many cells each window counts: an array over the spatial axes of y, or one number for all.

    A window that ceil_mode lets hang over the pads counts no cell there.
    """
    rank = len(window.kernel)
    if include_pad and not window.ceil:
        return float(np.prod(window.kernel))
    total: Any = 1.0
    for axis in range(rank):
        counted = _counted(x, y, axis, window, include_pad)
        total = total * np.reshape(counted, [-1 if i == axis else 1 for i in range(rank)])
    if not isinstance(total, Value) and not np.size(total):
        raise ModelError(f"AveragePool of {x.name!r}: its windows leave an empty output")
    if not isinstance(total, Value) and np.all(total == total.flat[0]):
        return float(total.flat[0])
    return total


def _counted(x: Value, y: Value, axis: int, window: Window, include_pad: bool) -> Any:
    """The cells (O,) that the windows count along one axis: an array, or a Value if sizes are not known."""
    size, out = x.shape[axis + 2], y.shape[axis + 2]
    begin, end = window.begin[axis], window.end[axis]
    known = isinstance(size, int) and isinstance(out, int)
    rows = out if isinstance(out, int) else 1
    refuse_too_many(f"AveragePool of {x.name!r}", rows, window.kernel[axis])
    position: Any = np.arange(out)[:, None] if known else _positions(y, axis)
    length: Any = size if known else dim_size(x, axis + 2)
    before: Any = begin if begin is not None else pad_before(x, window, axis)
    cells = position * window.strides[axis] - before
    cells = cells + np.arange(window.kernel[axis]) * window.dilations[axis]
    low, high = (-before, length + (end or 0)) if include_pad else (0, length)
    inside = np.logical_and(cells >= low, cells < high)
    return np.sum(inside.astype(x.dtype), axis=1)


def _positions(y: Value, axis: int) -> Value:
    """0, 1, … as int64 (O, 1)."""
    build = y.build
    scalar = np.reshape(dim_size(y, axis + 2), [])
    zero, one = (build.constant(np.int64(each)) for each in (0, 1))
    return np.expand_dims(build.op("Range", zero, scalar, one), 1)


rules.vjp("AveragePool", average_pool)


def root_share(g: Value, y: Value, p: int) -> Value:
    """g y^(1-p), 0 where y is: what each x of the p-norm y gets x |x|^(p-2) times."""
    positive = y > 0
    return np.where(positive, g * np.where(positive, y, 1.0) ** (1.0 - p), 0.0)


def power(x: Value, p: int) -> Value:
    """x |x|^(p-2)."""
    if p <= 2:
        return np.sign(x) if p == 1 else x
    return x * np.abs(x) ** (p - 2.0)


def lp_pool(g: Value, y: Value, x: Value, *, window: Window, p: int) -> Value:
    """The derivative of the p-norm of each window: x |x|^(p-2) y^(1-p)."""
    channels = x.shape[1]
    if not isinstance(channels, int):
        raise ModelError(f"LpPool of {x.name!r}: its number of channels must be fixed")
    refuse_too_many(f"LpPool of {x.name!r}", channels, *window.kernel)
    ones = g.build.constant(np.ones((channels, 1, *window.kernel)), g.dtype)
    return conv_vjp_input(root_share(g, y, p), ones, x, window, channels) * power(x, p)


rules.vjp("LpPool", lp_pool)
rules.vjp(
    "GlobalLpPool", lambda g, y, x, *, p: broadcast_like(root_share(g, y, p), x) * power(x, p)
)


def max_unpool(g: Value, y: Value, x: Value, indices: Value, size: Value | None) -> Value:
    """Each cell takes back what lies where it was put; cells put on one another all do, as in torch."""
    return g.build.op("Gather", np.reshape(g, [-1]), indices, axis=0, shape=x.shape)


rules.vjp("MaxUnpool", max_unpool)
