"""Slice: g where the slice was, zeros around it, and zeros between its cells for steps."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np

from onnxcam.arrays import Array, Shape
from onnxcam.autodiff.rule_table import Rules
from onnxcam.errors import ModelError
from onnxcam.graph import anp
from onnxcam.graph.slicing import dim_size, full_like, pad_axes, pad_dynamic, refuse_too_many
from onnxcam.graph.tracing import Value

rules = Rules()
Numbers: TypeAlias = Array | Value  # a Value if they are computed at run time


def slice_vjp(
    g: Value,
    y: Value,
    x: Value,
    *,
    starts: Numbers,
    ends: Numbers,
    axes: Numbers | None,
    steps: Numbers | None,
) -> Value:
    """Slice-13, y = x[start:end:step]: zeros with g at [start:end:step]. Since opset 1."""
    if (
        isinstance(starts, Value)
        or isinstance(ends, Value)
        or isinstance(axes, Value)
        or isinstance(steps, Value)
    ):
        return _slice_vjp_dynamic(g, x, starts, axes, steps)
    sliced_axes = range(len(starts)) if axes is None else axes
    strides = np.ones(len(starts), np.int64) if steps is None else steps
    for axis, start, end, step in zip(sliced_axes, starts, ends, strides, strict=True):
        g = _embed(g, x, int(axis) % x.ndim, int(start), int(end), int(step))
    return g


def _embed(g: Value, x: Value, axis: int, start: int, end: int, step: int) -> Value:
    """Zeros of the size of x along an axis, with g at [start:end:step]."""
    size = x.shape[axis]
    if not isinstance(size, int):
        if step < 1 or start < 0:
            raise ModelError(
                f"the Slice that reads {x.name!r} has a negative start or step, so it needs a fixed size; "
                "export the model with fixed sizes"
            )
        return _embed_dynamic(g, x, axis, g.build.constant(np.array([start])), step)
    refuse_too_many(f"the Slice that reads {x.name!r}", size)
    cells = np.arange(size)[slice(start, None if step < 0 and end < -size else end, step)]
    if not len(cells):
        return full_like(x, 0.0)
    g = _insert_zeros(_flip(g, axis) if step < 0 else g, axis, abs(step))
    first, last = sorted((int(cells[0]), int(cells[-1])))
    return _pad_axis(g, axis, first, size - 1 - last)


def _embed_dynamic(g: Value, x: Value, axis: int, start: Value, step: int) -> Value:
    g = _insert_zeros(g, axis, step)
    return pad_dynamic(g, axis, start, dim_size(x, axis) - dim_size(g, axis) - start)


def _slice_vjp_dynamic(
    g: Value, x: Value, starts: Numbers, axes: Numbers | None, steps: Numbers | None
) -> Value:
    count = starts.shape[0] if isinstance(starts, Value) else len(starts)
    if isinstance(axes, Value) or isinstance(steps, Value) or not isinstance(count, int):
        raise ModelError(
            f"the Slice that reads {x.name!r} needs fixed axes and steps; "
            "export the model with fixed axes and steps"
        )
    if steps is not None and np.any(np.asarray(steps, np.int64) < 1):
        raise ModelError(
            f"the Slice that reads {x.name!r} has a negative step, so it needs a fixed size; "
            "export the model with fixed sizes"
        )
    for i in range(count):
        axis = (i if axes is None else int(axes[i])) % x.ndim
        start = _normalized_start(g, x, axis, starts, i)
        g = _embed_dynamic(g, x, axis, start, 1 if steps is None else int(steps[i]))
    return g


def _normalized_start(g: Value, x: Value, axis: int, starts: Numbers, i: int) -> Value:
    """The i-th start, int64 (1,), counted from the front and within the axis."""
    build, size = g.build, dim_size(x, axis)
    if not isinstance(starts, Value):
        start = build.constant(np.array([starts[i]], np.int64))
    else:
        number = build.op("Gather", starts, build.constant(np.array([i], np.int64)), axis=0)
        start = number.astype(np.dtype(np.int64))
    zero = build.constant(np.zeros(1, np.int64))
    return anp.where(start < zero, anp.maximum(start + size, zero), anp.minimum(start, size))


def _flip(g: Value, axis: int) -> Value:
    arguments = [np.array([number], np.int64) for number in (-1, -(2**62), axis, -1)]
    return g.build.op("Slice", g, *(g.build.constant(array) for array in arguments), shape=g.shape)


def _insert_zeros(g: Value, axis: int, step: int) -> Value:
    """g with step - 1 zeros between its cells along an axis."""
    if step == 1:
        return g
    blocks = _pad_axis(anp.expand_dims(g, axis + 1), axis + 1, 0, step - 1)
    dims = [dim_size(blocks, i) for i in range(blocks.ndim)]
    dims[axis : axis + 2] = [dims[axis] * dims[axis + 1]]
    shape = _multiply_dim(g.shape, axis, step)
    merged = g.build.op("Reshape", blocks, anp.concatenate(dims, axis=0), shape=shape)
    return _pad_axis(merged, axis, 0, 1 - step)


def _multiply_dim(shape: Shape, axis: int, factor: int) -> Shape:
    size = shape[axis]
    product = size * factor if isinstance(size, int) else None
    return (*shape[:axis], product, *shape[axis + 1 :])


def _pad_axis(value: Value, axis: int, begin: int, end: int) -> Value:
    """Zeros before and after along one axis; negative numbers cut."""
    before, after = [0] * value.ndim, [0] * value.ndim
    before[axis], after[axis] = begin, end
    return pad_axes(value, before, after)


rules.vjp("Slice", slice_vjp)
