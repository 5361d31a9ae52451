"""Picking by index. What was picked twice gets both cotangents.

Never ScatterND(reduction="add"): on ONNX Runtime's CPU provider it loses updates when indices repeat
and more than one thread runs. ScatterElements is exact.
"""

from __future__ import annotations

from onnxcam.arrays import Array
from onnxcam.autodiff.ruletable import Rules
from onnxcam.graph.slicing import dim_of, expanded, filled
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
    dims = [dim_of(x, i) for i in range(x.ndim)]
    dims[axis] = g.build.constant(np.array([-1], np.int64))
    count = indices.constant.size if indices.constant is not None else None
    shape = (*x.shape[:axis], count, *x.shape[axis + 1 :])
    return g.build.op("Reshape", g, np.concatenate(dims, axis=0), shape=shape)


def _by_inverse(g: Value, picked: Array, size: int, axis: int) -> Value:
    """Distinct indices: gathering is undone by gathering, zeros where nothing was taken."""
    inverse = np.full(size, len(picked))
    inverse[picked] = np.arange(len(picked))
    if len(picked) < size:
        row = g.build.op("Gather", g, g.build.constant(np.zeros(1, np.int64)), axis=axis)
        g = np.concatenate([g, filled(row, 0.0)], axis=axis)
    return g.build.op("Gather", g, g.build.constant(inverse.astype(np.int64)), axis=axis)


def _scattered(g: Value, x: Value, indices: Value, axis: int) -> Value:
    column = [1] * x.ndim
    column[axis] = -1
    spread = expanded(np.reshape(indices, column), g)
    return g.build.op(
        "ScatterElements", filled(x, 0.0), spread, g, axis=axis, reduction="add", shape=x.shape
    )


rules.vjp("Gather", gather)
