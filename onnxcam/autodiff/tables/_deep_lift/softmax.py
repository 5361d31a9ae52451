"""Softmax and its relatives through their parts: y = exp(x - L), where L is the logarithm of the sum of exp(x).

L has the multipliers w of its own parts, exp, the sum and the logarithm. The sum of w (x - x') is L - L'.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onnxcam.autodiff.lowering.standardization import to_float32
from onnxcam.autodiff.rule_table import Reference, Rules
from onnxcam.autodiff.rules.activation import softmax_axes
from onnxcam.autodiff.tables._deep_lift.secant import difference, secant
from onnxcam.graph import anp
from onnxcam.graph.tracing import Value

LOWEST = float(np.finfo(np.float32).min) / 4  # what masks subtract infinity from

rules = Rules()


def finite(x: Value) -> Value:
    """x without the infinities of a mask, whose differences would be undefined."""
    return anp.maximum(to_float32(x), LOWEST)


def log_sum_exp(x: Value, axes: Sequence[int]) -> Value:
    """L, with its axes kept."""
    highest = anp.max(x, axis=axes, keepdims=True)
    return highest + anp.log(anp.sum(anp.exp(x - highest), axis=axes, keepdims=True))


def log_sum_exp_weights(x: Value, x0: Value, axes: Sequence[int]) -> tuple[Value, Value, Value]:
    """w, L and L'. Both images are taken relative to the larger of L and L', so that no sum overflows."""
    total, total0 = log_sum_exp(x, axes), log_sum_exp(x0, axes)
    highest = anp.maximum(total, total0)
    e, e0 = anp.exp(x - highest), anp.exp(x0 - highest)
    sums, sums0 = anp.exp(total - highest), anp.exp(total0 - highest)
    by_logarithm = secant(total - total0, sums, sums0, 1.0 / sums)
    return by_logarithm * secant(e - e0, x, x0, e), total, total0


def softmax_vjp(g: Value, y: Value, x: Value, *, axis: int, reference: Reference) -> Value:
    """h - w sum h, h = g (y - y') / ((x - L) - (x' - L'))."""
    axes = softmax_axes(x, axis)
    x, x0 = finite(x), finite(reference(x))
    w, total, total0 = log_sum_exp_weights(x, x0, axes)
    wide = to_float32(g)
    h = secant(wide * difference(y, reference), x - total, x0 - total0, wide * to_float32(y))
    return h - w * anp.sum(h, axis=axes, keepdims=True)


def log_softmax_vjp(g: Value, y: Value, x: Value, *, axis: int, reference: Reference) -> Value:
    """g - w sum g."""
    axes = softmax_axes(x, axis)
    w, _, _ = log_sum_exp_weights(finite(x), finite(reference(x)), axes)
    return to_float32(g) - w * anp.sum(to_float32(g), axis=axes, keepdims=True)


rules.vjp("Softmax", softmax_vjp)
rules.vjp("LogSoftmax", log_softmax_vjp)
