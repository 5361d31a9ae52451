"""Normalizations without parameters: MeanVarianceNormalization and LpNormalization."""

from __future__ import annotations

from collections.abc import Sequence

from onnxcam.autodiff.lowering.standardization import Standardization, mean_over, to_float32
from onnxcam.autodiff.rule_table import Rules
from onnxcam.graph import anp
from onnxcam.graph.tracing import Value

rules = Rules()


def mean_variance_norm_vjp(g: Value, y: Value, x: Value, *, axes: Sequence[int]) -> Value:
    """MeanVarianceNormalization-13, y = (x - mean x) / (d + 1e-9) with the standard deviation d.

    The gradient through y as standardized values; 0 where d is 0. Since opset 9.
    """
    x = to_float32(x)
    centered = x - mean_over(x, axes)
    deviation = anp.sqrt(mean_over(centered * centered, axes))
    factor = anp.where(deviation > 0, 1.0 / (deviation + 1e-9), 0.0)
    return Standardization(to_float32(y), factor, axes).vjp(to_float32(g))


rules.vjp("MeanVarianceNormalization", mean_variance_norm_vjp)


def lp_norm_vjp(g: Value, y: Value, x: Value, *, axis: int, p: int) -> Value:
    """LpNormalization-22, y = x / |x|_p: (g - d sum(g y)) / |x|_p. Since opset 1.

    d is the slope of the norm: sign x for p = 1, y for p = 2. 0 where all x are 0.
    """
    x, y, g = to_float32(x), to_float32(y), to_float32(g)
    power_sum = anp.sum(anp.abs(x) if p == 1 else x * x, axis=axis, keepdims=True)
    norm = power_sum if p == 1 else anp.sqrt(power_sum)
    slope = anp.sign(x) if p == 1 else y
    numerator = g - slope * anp.sum(g * y, axis=axis, keepdims=True)
    return anp.where(norm > 0, numerator / anp.where(norm > 0, norm, 1.0), 0.0)


rules.vjp("LpNormalization", lp_norm_vjp)
