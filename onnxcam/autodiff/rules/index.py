"""Picking by index. What was picked twice gets both cotangents.

Never ScatterND(reduction="add"): on ONNX Runtime's CPU provider it loses updates when indices repeat
and more than one thread runs. ScatterElements is exact.
"""

from __future__ import annotations

from typing import Any

from onnxcam.arrays import Array
from onnxcam.autodiff.rule_table import Rules
from onnxcam.errors import ModelError
from onnxcam.graph.slicing import broadcast_like, dim_size, full_like, refuse_too_many
from onnxcam.graph.value import Value, np

rules = Rules()


def gather(g: Value, y: Value, x: Value, indices: Value, *, axis: int) -> Value:
    """Each slice of g goes back to where it was taken from."""
    axis %= x.ndim
    flat = _flat_index_axis(g, x, indices, axis)
    size, known = x.shape[axis], indices.constant
    if known is not None and isinstance(size, int):
        picked = np.ravel(known) % size
        if len(set(picked.tolist())) == len(picked):
            return _by_inverse(flat, picked, size, axis)
    return _scattered(flat, x, indices, axis)


def _flat_index_axis(g: Value, x: Value, indices: Value, axis: int) -> Value:
    """g with the axes of the indices made into one."""
    if indices.ndim == 1:
        return g
    if indices.ndim == 0:
        return np.expand_dims(g, axis)
    dims = [dim_size(x, i) for i in range(x.ndim)]
    dims[axis] = g.build.constant(np.array([-1], np.int64))
    count = indices.constant.size if indices.constant is not None else None
    shape = (*x.shape[:axis], count, *x.shape[axis + 1 :])
    return g.build.op("Reshape", g, np.concatenate(dims, axis=0), shape=shape)


def _by_inverse(g: Value, picked: Array, size: int, axis: int) -> Value:
    """Distinct indices: gathering is undone by gathering, zeros where nothing was taken."""
    refuse_too_many(f"Gather of {g.name!r}", size)
    inverse = np.full(size, len(picked))
    inverse[picked] = np.arange(len(picked))
    if len(picked) < size:
        row = g.build.op("Gather", g, g.build.constant(np.zeros(1, np.int64)), axis=axis)
        g = np.concatenate([g, full_like(row, 0.0)], axis=axis)
    return g.build.op("Gather", g, g.build.constant(inverse.astype(np.int64)), axis=axis)


def _scattered(g: Value, x: Value, indices: Value, axis: int) -> Value:
    column = [1] * x.ndim
    column[axis] = -1
    spread = broadcast_like(np.reshape(indices, column), g)
    return g.build.op(
        "ScatterElements", full_like(x, 0.0), spread, g, axis=axis, reduction="add", shape=x.shape
    )


rules.vjp("Gather", gather)


def gather_elements(g: Value, y: Value, x: Value, indices: Value, *, axis: int) -> Value:
    """Each element of g goes back to where it was taken from."""
    return g.build.op(
        "ScatterElements", full_like(x, 0.0), indices, g, axis=axis, reduction="add", shape=x.shape
    )


rules.vjp("GatherElements", gather_elements)


def gather_nd(g: Value, y: Value, x: Value, indices: Value, *, batch_dims: int | None) -> Value:
    """The tuples of indices are made into row numbers of x as a table; rows are added back."""
    build, first, count = g.build, batch_dims or 0, indices.shape[-1]
    if not isinstance(count, int):
        raise ModelError(f"GatherND of {x.name!r}: the length of its index tuples must be fixed")
    minus = build.constant(np.array([-1], np.int64))
    inner = _product(x, range(first + count, x.ndim))
    rows = _row_numbers(x, indices, first, count)
    table = build.op("Reshape", full_like(x, 0.0), np.concatenate([minus, inner], axis=0))
    what = build.op("Reshape", g, np.concatenate([minus, inner], axis=0))
    where = build.op("Expand", rows, build.op("Shape", what))
    summed = build.op("ScatterElements", table, where, what, axis=0, reduction="add")
    return build.op("Reshape", summed, build.shape_of(x), shape=x.shape)


def _row_numbers(x: Value, indices: Value, first: int, count: int) -> Value:
    """Where the tuples point, int64 (tuples, 1), in x with the axes before and of the tuples made one."""
    build = x.build
    batches = _product(x, range(first))
    whole = np.concatenate([batches, build.constant(np.array([-1, count], np.int64))], axis=0)
    tuples = build.op("Reshape", indices, whole)
    scalar = np.reshape(batches, [])
    zero, one = (build.constant(np.int64(each)) for each in (0, 1))
    row = np.expand_dims(build.op("Range", zero, scalar, one), (1, 2))
    for place in range(count):
        size = dim_size(x, first + place)
        index = build.op("Gather", tuples, build.constant(np.array([place])), axis=2)
        negative = index < build.constant(np.zeros(1, np.int64))
        row = row * size + np.where(negative, index + size, index)
    return np.reshape(row, [-1, 1])


def _product(x: Value, axes: range) -> Value:
    """The number of cells of some axes, int64 (1,)."""
    total = x.build.constant(np.ones(1, np.int64))
    for axis in axes:
        total = total * dim_size(x, axis)
    return total


rules.vjp("GatherND", gather_nd)


def scatter_data(g: Value, y: Value, x: Value, indices: Value, updates: Value, **how: Any) -> Value:
    """g where x stayed: everywhere if the updates were added, nowhere under them if not."""
    if _reduction(x, how.pop("reduction")) == "add":
        return g
    operator = "ScatterElements" if "axis" in how else "ScatterND"
    return g.build.op(operator, g, indices, full_like(updates, 0.0), **how)


def scatter_updates(
    g: Value, y: Value, x: Value, indices: Value, updates: Value, **how: Any
) -> Value:
    """What lies where the updates went; those that another one overwrote take it too, as in torch."""
    _reduction(x, how.pop("reduction"))
    return g.build.op("GatherElements" if "axis" in how else "GatherND", g, indices, **how)


def _reduction(x: Value, reduction: int | str | None) -> str:
    if reduction not in (None, "none", "add"):
        raise ModelError(
            f"a scatter into {x.name!r} with reduction {reduction!r} has no gradient rule"
        )
    return str(reduction or "none")


rules.vjp(
    "ScatterElements",
    lambda g, y, x, i, u, *, axis, reduction: scatter_data(
        g, y, x, i, u, axis=axis, reduction=reduction
    ),
    None,
    lambda g, y, x, i, u, *, axis, reduction: scatter_updates(
        g, y, x, i, u, axis=axis, reduction=reduction
    ),
)
rules.vjp(
    "ScatterND",
    lambda g, y, x, i, u, *, reduction: scatter_data(g, y, x, i, u, reduction=reduction),
    None,
    lambda g, y, x, i, u, *, reduction: scatter_updates(g, y, x, i, u, reduction=reduction),
)
rules.vjp(  # what ScatterElements was called at opsets 9 and 10
    "Scatter",
    lambda g, y, x, i, u, *, axis: scatter_data(g, y, x, i, u, axis=axis, reduction=None),
    None,
    lambda g, y, x, i, u, *, axis: scatter_updates(g, y, x, i, u, axis=axis, reduction=None),
)


def top_k(g: Value, y: Value, x: Value, *, axis: int) -> Value:
    """Each value goes back to where it was found, which the operator says."""
    indices = y.build.second_output(y, np.dtype(np.int64))
    return g.build.op("ScatterElements", full_like(x, 0.0), indices, g, axis=axis, shape=x.shape)


rules.vjp("TopK", top_k)


def compress(g: Value, y: Value, x: Value, condition: Value, *, axis: int | None) -> Value:
    """The slices that were kept go back to where they were; of the flattened x if there is no axis."""
    build, blank = g.build, full_like(x, 0.0)
    if axis is None:
        blank = np.reshape(blank, [-1])
    column = [1] * blank.ndim
    column[axis or 0] = -1
    kept = broadcast_like(np.reshape(build.op("NonZero", condition), column), g)
    found = build.op("ScatterElements", blank, kept, g, axis=axis or 0)
    return build.op("Reshape", found, build.shape_of(x), shape=x.shape) if axis is None else found


rules.vjp("Compress", compress)
