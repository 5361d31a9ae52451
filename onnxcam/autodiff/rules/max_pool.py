"""MaxPool and MaxUnpool: cells are selected by index."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from onnxcam.autodiff.lowering.conv_vjp import pad_before
from onnxcam.autodiff.rule_table import Rules
from onnxcam.graph import anp
from onnxcam.graph.dims import is_static
from onnxcam.graph.slicing import full_like
from onnxcam.graph.tracing import Value
from onnxcam.graph.window import Window

rules = Rules()


def max_pool_vjp(
    g: Value, y: Value, x: Value, *, window: Window, storage_order: int | None
) -> Value:
    """MaxPool-22: each cotangent goes to the first maximum of its window, at the indices that the pool returns.

    Since opset 1. Indices count over the whole tensor. Windows that overlap may name a cell twice, so the sum
    must be exact: that of ScatterElements is, that of ScatterND is not.
    """
    attributes = dict(y.tensor.inputs[0].attrs)
    attributes.pop("storage_order", None)
    if window.same and not is_static(x.shape[2:]):
        return _free_pads_vjp(g, x, window, attributes)
    # its indices run down the columns: a second pool returns indices along the rows
    if storage_order:
        y = y.build.ops("MaxPool", x, outputs=2, **attributes)[0]
    return _scatter(g, y, x)


def _free_pads_vjp(g: Value, x: Value, window: Window, attributes: Mapping[str, Any]) -> Value:
    """The same for auto_pad SAME on images of any size, by a second pool on x with its pads: OpenVINO 2026.4
    returns wrong values and indices of the first one.
    """
    build, rank = x.build, len(window.kernel)
    mirrored = replace(window, begin=window.end, upper=not window.upper)
    begin, end = ([pad_before(x, w, axis) for axis in range(rank)] for w in (window, mirrored))
    none = build.constant(np.zeros(2, np.int64))
    shape = (*x.shape[:2], *[None] * rank)
    pads = anp.concatenate([none, *begin, none, *end])
    padded = build.op("Pad", x, pads, x.constant_like(-np.inf), shape=shape)
    settings = {n: v for n, v in attributes.items() if n not in ("auto_pad", "pads")}
    pooled = build.ops("MaxPool", padded, outputs=2, **settings)[0]
    total = _scatter(g, pooled, padded)
    axes = build.constant(np.arange(2, 2 + rank))
    starts = anp.concatenate(begin)
    ends = starts + build.op("Gather", build.shape_of(x), axes, axis=0)
    return build.op("Slice", total, starts, ends, axes, shape=x.shape)


def _scatter(g: Value, y: Value, x: Value) -> Value:
    """The cotangents at the indices of the pool y of x."""
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
