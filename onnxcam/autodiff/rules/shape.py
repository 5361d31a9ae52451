"""Operators that change shapes and move values without changing them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onnxcam.autodiff.rule_table import Rules
from onnxcam.graph import anp
from onnxcam.graph.slicing import dim_size, full_like, slice_axes, slice_dynamic
from onnxcam.graph.tracing import Value

rules = Rules()

# Versions: Reshape-25 (since 5), Flatten-25 (1), Squeeze-25 (1), Unsqueeze-25 (1), Expand-13 (8)
rules.vjp("Reshape", lambda g, y, x, shape: g.build.reshape_like(g, x))
rules.vjp("Flatten", lambda g, y, x: g.build.reshape_like(g, x))
rules.vjp("Squeeze", lambda g, y, x: g.build.reshape_like(g, x))
rules.vjp("Unsqueeze", lambda g, y, x: g.build.reshape_like(g, x))
rules.vjp("Expand", lambda g, y, x, shape: g)


def transpose_vjp(g: Value, y: Value, x: Value, *, perm: list[int] | None) -> Value:
    """Transpose-25: the inverse permutation. Since opset 1."""
    order = list(range(x.ndim))[::-1] if perm is None else perm
    return anp.transpose(g, np.argsort(order).tolist())


def concat_vjp(g: Value, y: Value, *xs: Value, axis: int, slot: int) -> Value:
    """Concat-13: the slice of g where the input is in y. Since opset 4."""
    axis %= y.ndim
    dims = [x.shape[axis] for x in xs[: slot + 1]]
    sizes = [size for size in dims if isinstance(size, int)]
    if len(sizes) == len(dims):
        return slice_axes(g, [sum(sizes[:-1])], [sum(sizes)], [axis])
    lengths = [dim_size(x, axis) for x in xs[: slot + 1]]
    start = sum(lengths[:-1], start=g.build.constant(np.zeros(1, np.int64)))
    return slice_dynamic(g, axis, start, start + lengths[-1])


def split_vjp(gs: Sequence[Value | None], ys: Sequence[Value], x: Value, *, axis: int) -> Value:
    """Split-18: the concatenation of the cotangents, with zeros where an output has none. Since opset 2."""
    chunks = [full_like(y, 0.0) if g is None else g for g, y in zip(gs, ys, strict=True)]
    return anp.concatenate(chunks, axis=axis)


rules.vjp("Transpose", transpose_vjp)
rules.variadic("Concat", concat_vjp)
rules.outputs("Split", split_vjp)
