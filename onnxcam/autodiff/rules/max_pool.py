"""MaxPool and MaxUnpool: cells are selected by index."""

from __future__ import annotations

import numpy as np

from onnxcam.autodiff.rule_table import Rules
from onnxcam.graph import anp
from onnxcam.graph.slicing import full_like
from onnxcam.graph.tracing import Value

rules = Rules()


def max_pool_vjp(g: Value, y: Value, x: Value, *, storage_order: int | None) -> Value:
    """MaxPool-22: each cotangent goes to the first maximum of its window, at the indices that the pool returns.

    Since opset 1. Indices count over the whole tensor. Windows that overlap may name a cell twice, so the sum
    must be exact: that of ScatterElements is, that of ScatterND is not.
    """
    # its indices run down the columns: a second pool returns indices along the rows
    if storage_order:
        attributes = dict(y.tensor.inputs[0].attrs)
        del attributes["storage_order"]
        y = y.build.ops("MaxPool", x, outputs=2, **attributes)[0]
    indices = y.build.second_output(y, np.dtype(np.int64))
    zeros, indices, updates = (anp.reshape(v, [-1]) for v in (full_like(x, 0.0), indices, g))
    total = g.build.op("ScatterElements", zeros, indices, updates, axis=0, reduction="add")
    return g.build.op("Reshape", total, g.build.shape_of(x), shape=x.shape)


def max_unpool_vjp(g: Value, y: Value, x: Value, indices: Value, size: Value | None) -> Value:
    """MaxUnpool-22, y[indices] = x: g[indices]. Since opset 9.

    Several cells at the same index all get its cotangent, as in torch.
    """
    return g.build.op("Gather", anp.reshape(g, [-1]), indices, axis=0, shape=x.shape)


rules.vjp("MaxPool", max_pool_vjp)
rules.vjp("MaxUnpool", max_unpool_vjp)
