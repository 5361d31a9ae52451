"""Functions of one number, by the Rescale rule: (y - y') / (x - x').

Clip and others whose further inputs are settings count among them. x times a function of x, as in SiLU or GELU,
has the same multiplier as one operator and as several.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from onnxcam.autodiff.lowering.standardization import to_float32
from onnxcam.autodiff.rule_table import Reference, Rules, Vjp
from onnxcam.autodiff.rules import DEFAULT
from onnxcam.autodiff.rules.quantization import straight_through_vjp
from onnxcam.autodiff.tables._deep_lift.secant import compared, difference, secant
from onnxcam.graph import anp
from onnxcam.graph.operators import DOMAIN, traits_named
from onnxcam.graph.tracing import Value

SMALLEST = float(np.finfo(np.float32).tiny)
LINES = ("Neg", "Dropout")

rules = Rules()


def rescaled(vjp: Vjp) -> Vjp:
    """The Rescale rule, with the derivative where x and x' are nearly equal (Shrikumar 2017, section 3.5.1)."""

    @compared(vjp)
    def rescaled_vjp(
        g: Value, y: Value, x: Value, *, reference: Reference, **settings: Any
    ) -> Value:
        rise = to_float32(g) * difference(y, reference)
        return secant(rise, x, reference(x), vjp(g, y, x, **settings))

    return rescaled_vjp


def _is_curved(operator: str) -> bool:
    """Whether an operator is a function of one number, and neither a line nor ReLU."""
    traits, others = traits_named(operator), (*LINES, "Relu")
    return traits.elementwise == "unary" and traits.moves is None and operator not in others


for operator, rule in DEFAULT.items():
    if _is_curved(operator) and len(rule.functions) == 1 and (derivative := rule.function(0)):
        rules.vjp(operator, rescaled(derivative))


def relu_vjp(g: Value, y: Value, x: Value, *, reference: Reference) -> Value:
    """The Rescale rule for ReLU: the part of the way from x' to x on which it rises, max(x, x') / |x - x'|, at
    least 0 and at most 1. No difference of y is rounded, so that it is exact for neighboring numbers, too.
    """
    wide, wide0 = to_float32(x), to_float32(reference(x))
    way = anp.maximum(anp.abs(wide - wide0), SMALLEST)
    return to_float32(g) * anp.clip(anp.maximum(wide, wide0) / way, 0.0, 1.0)


rules.vjp("Relu", relu_vjp)


def dequantized_vjp(
    g: Value,
    y: Value,
    quantized: Value,
    scale: Value,
    zero_point: Value | None,
    x: Value,
    low: Value | None,
    high: Value | None,
    *,
    reference: Reference,
) -> Value:
    """x rounded to a grid: (y - y') / (x - x'), but straight through where the two are within a step of it."""
    straight = straight_through_vjp(g, y, quantized, scale, zero_point, x, low, high)
    run, rise = difference(x, reference), to_float32(g) * difference(y, reference)
    step = scale if scale.constant is None else float(np.max(np.abs(scale.constant)))
    if isinstance(step, Value) and step.ndim:
        return straight  # a step for each channel, computed at run time
    is_far = anp.abs(run) > (step.astype(run.dtype) if isinstance(step, Value) else step)
    return anp.where(is_far, rise / anp.where(is_far, run, 1.0), to_float32(straight))


rules.vjp("DequantizeLinear", None, None, None, dequantized_vjp, domain=DOMAIN)
