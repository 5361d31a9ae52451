"""Operators that move values without changing them."""

from __future__ import annotations

from onnxcam.arrays import Array
from onnxcam.autodiff.lowering.matmul import matmul_along
from onnxcam.autodiff.rule_table import Rules
from onnxcam.errors import ModelError
from onnxcam.graph.slicing import (
    dim_size,
    full_like,
    pad_axes,
    pad_dynamic,
    refuse_too_many,
    slice_axes,
    slice_dynamic,
)
from onnxcam.graph.value import Value, np

rules = Rules()
vjp = rules.vjp

vjp("Reshape", lambda g, y, x, shape: g.build.reshape_like(g, x))
vjp("Flatten", lambda g, y, x: g.build.reshape_like(g, x))
vjp("Squeeze", lambda g, y, x: g.build.reshape_like(g, x))
vjp("Unsqueeze", lambda g, y, x: g.build.reshape_like(g, x))
vjp("Expand", lambda g, y, x, shape: g)


def transpose(g: Value, y: Value, x: Value, *, perm: list[int] | None) -> Value:
    """The inverse permutation."""
    order = list(range(x.ndim))[::-1] if perm is None else perm
    return np.transpose(g, np.argsort(order))


vjp("Transpose", transpose)


def concat(g: Value, y: Value, *xs: Value, axis: int, slot: int) -> Value:
    """The piece of g where the input went."""
    axis %= y.ndim
    before = [each.shape[axis] for each in xs[: slot + 1]]
    if all(isinstance(each, int) for each in before):
        sizes = [int(each) for each in before if isinstance(each, int)]
        return slice_axes(g, [sum(sizes[:-1])], [sum(sizes)], [axis])
    ends = [dim_size(each, axis) for each in xs[: slot + 1]]
    start = sum(ends[:-1], start=g.build.constant(np.zeros(1, np.int64)))
    return slice_dynamic(g, axis, start, start + ends[-1])


rules.variadic("Concat", concat)


def split(gs: tuple[Value | None, ...], ys: tuple[Value, ...], x: Value, *, axis: int) -> Value:
    """The pieces side by side; zeros for those that nothing comes back to."""
    pieces = [full_like(y, 0.0) if g is None else g for g, y in zip(gs, ys, strict=True)]
    return np.concatenate(pieces, axis=axis)


rules.outputs("Split", split)


def pad_vjp(
    g: Value, y: Value, x: Value, *, mode: str, pads: Array | Value, axes: Array | None
) -> Value:
    """Constant: what was added is cut away. Other modes: what was copied is added back, by a matrix
    of zeros and ones an axis, which says where each padded cell came from.
    """
    if isinstance(pads, Value):
        return _cut_at_run_time(g, x, mode, pads, axes)
    begin, end = np.zeros((2, x.ndim), np.int64)
    chosen = list(range(x.ndim)) if axes is None else [int(each) for each in axes]
    begin[chosen], end[chosen] = np.reshape(np.asarray(pads), (2, -1))
    if mode == "constant":
        return pad_axes(g, -begin, -end)
    for axis in np.flatnonzero(begin | end):
        g = _added_back(g, x, int(axis), (int(begin[axis]), int(end[axis])), mode)
    return g


def _cut_at_run_time(
    g: Value, x: Value, mode: str, pads: Value, axes: Array | Value | None
) -> Value:
    if mode != "constant":
        raise ModelError(f"the pads of {x.name!r} are computed at run time: fix them on export")
    build, more = g.build, []
    if axes is not None:
        more = [axes if isinstance(axes, Value) else build.constant(np.asarray(axes))]
    return build.op("Pad", g, -pads, build.constant(0, g.dtype), *more, shape=x.shape)


def _added_back(g: Value, x: Value, axis: int, amount: tuple[int, int], mode: str) -> Value:
    size = x.shape[axis]
    if not isinstance(size, int):
        raise ModelError(f"Pad in mode {mode} of {x.name!r} needs a fixed size of axis {axis}")
    cut = [max(-each, 0) for each in amount]
    refuse_too_many(f"Pad in mode {mode} of {x.name!r}", size, size + sum(map(abs, amount)))
    kept = np.arange(size)[cut[0] : size - cut[1]]
    source = np.pad(kept, [max(each, 0) for each in amount], mode=mode)
    return matmul_along(g, np.eye(size)[source].T, axis)


vjp("Pad", pad_vjp)


def slice_(
    g: Value,
    y: Value,
    x: Value,
    *,
    starts: Array | Value,
    ends: Array | Value,
    axes: Array | Value | None,
    steps: Array | Value | None,
) -> Value:
    """Zeros around the piece that was cut out; between its cells too where it was cut with a step."""
    if isinstance(starts, Value) or isinstance(ends, Value):
        return _slice_at_run_time(g, x, starts, axes, steps)
    if isinstance(axes, Value) or isinstance(steps, Value):
        return _slice_at_run_time(g, x, starts, axes, steps)
    chosen = range(len(starts)) if axes is None else axes
    strides = np.ones(len(starts), np.int64) if steps is None else steps
    for axis, start, end, step in zip(chosen, starts, ends, strides, strict=True):
        g = _put_back(g, x, int(axis) % x.ndim, int(start), int(end), int(step))
    return g


def _put_back(g: Value, x: Value, axis: int, start: int, end: int, step: int) -> Value:
    size = x.shape[axis]
    if not isinstance(size, int):
        if step < 1 or start < 0:
            raise ModelError(f"Slice of {x.name!r} backwards or from the end needs a fixed size")
        return _put_back_at_run_time(g, x, axis, g.build.constant(np.array([start])), step)
    refuse_too_many(f"Slice of {x.name!r}", size)
    source = np.arange(size)[slice(start, None if step < 0 and end < -size else end, step)]
    if not len(source):
        return full_like(x, 0.0)
    if step < 0:
        g = _flipped(g, axis)
    g = _spaced(g, axis, abs(step))
    first, last = sorted((int(source[0]), int(source[-1])))
    return pad_axes(g, *_one_axis(x.ndim, axis, first, size - 1 - last))


def _put_back_at_run_time(g: Value, x: Value, axis: int, start: Value, step: int) -> Value:
    g = _spaced(g, axis, step)
    return pad_dynamic(g, axis, start, dim_size(x, axis) - dim_size(g, axis) - start)


def _slice_at_run_time(
    g: Value,
    x: Value,
    starts: Array | Value,
    axes: Array | Value | None,
    steps: Array | Value | None,
) -> Value:
    count = starts.shape[0] if isinstance(starts, Value) else len(starts)
    if isinstance(axes, Value) or isinstance(steps, Value) or not isinstance(count, int):
        raise ModelError(f"Slice of {x.name!r} takes axes or steps at run time: fix them on export")
    if steps is not None and np.any(np.asarray(steps) < 1):
        raise ModelError(f"Slice of {x.name!r} backwards needs a fixed size")
    for i in range(count):
        axis = (i if axes is None else int(axes[i])) % x.ndim
        start = _first(g, x, axis, starts, i)
        g = _put_back_at_run_time(g, x, axis, start, 1 if steps is None else int(steps[i]))
    return g


def _first(g: Value, x: Value, axis: int, starts: Array | Value, i: int) -> Value:
    """Where a slice starts, int64 (1,), counted from the front."""
    build, size = g.build, dim_size(x, axis)
    if not isinstance(starts, Value):
        start = build.constant(np.array([starts[i]], np.int64))
    else:
        picked = build.op("Gather", starts, build.constant(np.array([i], np.int64)), axis=0)
        start = picked.astype(np.dtype(np.int64))
    zero = build.constant(np.zeros(1, np.int64))
    return np.where(start < zero, np.maximum(start + size, zero), np.minimum(start, size))


def _flipped(g: Value, axis: int) -> Value:
    numbers = [np.array([each], np.int64) for each in (-1, -(2**62), axis, -1)]
    return g.build.op("Slice", g, *(g.build.constant(each) for each in numbers), shape=g.shape)


def _spaced(g: Value, axis: int, step: int) -> Value:
    """g with step - 1 zeros between its cells along an axis."""
    if step == 1:
        return g
    apart = np.expand_dims(g, axis + 1)
    spread = pad_axes(apart, *_one_axis(g.ndim + 1, axis + 1, 0, step - 1))
    merged = g.build.op(
        "Reshape", spread, _merged_shape(spread, axis), shape=_merged_dims(g, axis, step)
    )
    return pad_axes(merged, *_one_axis(g.ndim, axis, 0, 1 - step))


def _merged_dims(g: Value, axis: int, step: int) -> tuple[int | str | None, ...]:
    size = g.shape[axis]
    merged = size * step if isinstance(size, int) else None
    return (*g.shape[:axis], merged, *g.shape[axis + 1 :])


def _merged_shape(spread: Value, axis: int) -> Value:
    dims = [dim_size(spread, i) for i in range(spread.ndim)]
    dims[axis : axis + 2] = [dims[axis] * dims[axis + 1]]
    return np.concatenate(dims, axis=0)


def _one_axis(rank: int, axis: int, begin: int, end: int) -> tuple[list[int], list[int]]:
    return [begin * (i == axis) for i in range(rank)], [end * (i == axis) for i in range(rank)]


vjp("Slice", slice_)
