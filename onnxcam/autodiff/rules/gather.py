"""Gather, GatherElements, TopK, Compress: cells are selected by index, and g is added at these indices.

ScatterND with reduction="add" is never used: with more than one thread, ONNX Runtime's CPU provider loses
updates where indices repeat. ScatterElements is exact.
"""

from __future__ import annotations

import numpy as np

from onnxcam.arrays import Array
from onnxcam.autodiff.rule_table import Rules
from onnxcam.graph import anp
from onnxcam.graph.slicing import broadcast_like, dim_size, full_like, refuse_too_many
from onnxcam.graph.tracing import Value

rules = Rules()


def gather_vjp(g: Value, y: Value, x: Value, indices: Value, *, axis: int) -> Value:
    """Gather-13, y = x[indices] along an axis: zeros, with g added at the indices. Since opset 1."""
    axis %= x.ndim
    slices = _flatten_indices(g, x, indices, axis)
    size = x.shape[axis]
    if indices.constant is not None and isinstance(size, int):
        positions = np.ravel(indices.constant.astype(np.int64, copy=False)) % size
        if len(set(positions.tolist())) == len(positions):
            return _gather_inverse(slices, positions, size, axis)
    zeros, indices = full_like(x, 0.0), _indices_along_axis(indices, slices, axis)
    return g.build.op(
        "ScatterElements", zeros, indices, slices, axis=axis, reduction="add", shape=x.shape
    )


def _flatten_indices(g: Value, x: Value, indices: Value, axis: int) -> Value:
    """g with one axis in place of the axes of the indices."""
    if indices.ndim == 1:
        return g
    if indices.ndim == 0:
        return anp.expand_dims(g, axis)
    dims = [dim_size(x, i) for i in range(x.ndim)]
    dims[axis] = g.build.constant(np.array([-1], np.int64))
    count = indices.constant.size if indices.constant is not None else None
    shape = (*x.shape[:axis], count, *x.shape[axis + 1 :])
    return g.build.op("Reshape", g, anp.concatenate(dims, axis=0), shape=shape)


def _gather_inverse(g: Value, positions: Array, size: int, axis: int) -> Value:
    """For distinct positions a Gather by the inverse, from a slice of zeros where none points."""
    refuse_too_many("a Gather", size)
    inverse = np.full(size, len(positions))
    inverse[positions] = np.arange(len(positions))
    if len(positions) < size:
        first = g.build.op("Gather", g, g.build.constant(np.zeros(1, np.int64)), axis=axis)
        g = anp.concatenate([g, full_like(first, 0.0)], axis=axis)
    return g.build.op("Gather", g, g.build.constant(inverse.astype(np.int64)), axis=axis)


def _indices_along_axis(indices: Value, like: Value, axis: int) -> Value:
    """Indices for all cells along an axis, broadcast to the shape of a value."""
    shape = [1] * like.ndim
    shape[axis] = -1
    return broadcast_like(anp.reshape(indices, shape), like)


def gather_elements_vjp(g: Value, y: Value, x: Value, indices: Value, *, axis: int) -> Value:
    """GatherElements-13: zeros, with g added at the indices. Since opset 11."""
    return g.build.op(
        "ScatterElements", full_like(x, 0.0), indices, g, axis=axis, reduction="add", shape=x.shape
    )


def top_k_vjp(g: Value, y: Value, x: Value, *, axis: int) -> Value:
    """TopK-24: zeros, with g at the indices, which are the second output. Since opset 1."""
    indices = y.build.second_output(y, np.dtype(np.int64))
    return g.build.op("ScatterElements", full_like(x, 0.0), indices, g, axis=axis, shape=x.shape)


def compress_vjp(g: Value, y: Value, x: Value, condition: Value, *, axis: int | None) -> Value:
    """Compress-28: zeros, with g where the condition holds; without an axis x is flattened. Since opset 9."""
    build, zeros = g.build, full_like(x, 0.0)
    if axis is None:
        zeros = anp.reshape(zeros, [-1])
    indices = _indices_along_axis(build.op("NonZero", condition), g, axis or 0)
    cotangent = build.op("ScatterElements", zeros, indices, g, axis=axis or 0)
    if axis is not None:
        return cotangent
    return build.op("Reshape", cotangent, build.shape_of(x), shape=x.shape)


rules.vjp("Gather", gather_vjp)
rules.vjp("GatherElements", gather_elements_vjp)
rules.vjp("TopK", top_k_vjp)
rules.vjp("Compress", compress_vjp)
