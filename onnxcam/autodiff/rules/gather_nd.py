"""GatherND: slices are selected by tuples of indices."""

from __future__ import annotations

import numpy as np

from onnxcam.autodiff.rule_table import Rules
from onnxcam.errors import ModelError
from onnxcam.graph import anp
from onnxcam.graph.slicing import arange, dim_size, full_like
from onnxcam.graph.tracing import Value

rules = Rules()


def gather_nd_vjp(g: Value, y: Value, x: Value, indices: Value, *, batch_dims: int | None) -> Value:
    """GatherND-13, y = x[tuples of indices]: zeros, with g added at the tuples. Since opset 11.

    Added by rows: x is reshaped to a table with one row for each tuple there can be.
    """
    build, batch, length = g.build, batch_dims or 0, indices.shape[-1]
    if not isinstance(length, int):
        raise ModelError(
            f"the GatherND that reads {x.name!r} needs index tuples of a fixed length; "
            "export the model with fixed sizes"
        )
    minus_one = build.constant(np.array([-1], np.int64))
    row_size = _product(x, range(batch + length, x.ndim))
    rows = _row_numbers(x, indices, batch, length)
    table = build.op("Reshape", full_like(x, 0.0), anp.concatenate([minus_one, row_size], axis=0))
    updates = build.op("Reshape", g, anp.concatenate([minus_one, row_size], axis=0))
    positions = build.op("Expand", rows, build.op("Shape", updates))
    total = build.op("ScatterElements", table, positions, updates, axis=0, reduction="add")
    return build.op("Reshape", total, build.shape_of(x), shape=x.shape)


def _row_numbers(x: Value, indices: Value, batch: int, length: int) -> Value:
    """The row of each tuple, int64 (tuples, 1), where the axes of batch and tuple are flattened to one."""
    build = x.build
    batches = _product(x, range(batch))
    shape = anp.concatenate([batches, build.constant(np.array([-1, length], np.int64))], axis=0)
    tuples = build.op("Reshape", indices, shape)
    row = anp.expand_dims(arange(batches), (1, 2))
    for i in range(length):
        size = dim_size(x, batch + i)
        index = build.op("Gather", tuples, build.constant(np.array([i])), axis=2)
        negative = index < build.constant(np.zeros(1, np.int64))
        row = row * size + anp.where(negative, index + size, index)
    return anp.reshape(row, [-1, 1])


def _product(x: Value, axes: range) -> Value:
    """The product of the sizes of some axes, int64 (1,)."""
    total = x.build.constant(np.ones(1, np.int64))
    for axis in axes:
        total = total * dim_size(x, axis)
    return total


rules.vjp("GatherND", gather_nd_vjp)
