"""Quantised tensors: the straight-through estimator (see `passes/quantization/hoist_dequantize.py`)."""

from __future__ import annotations

from onnxcam.autodiff.rule_table import Rules
from onnxcam.graph.constants import DOMAIN
from onnxcam.graph.value import Value, np

rules = Rules()


def straight_through(
    g: Value,
    y: Value,
    whole: Value,
    scale: Value,
    zero: Value | None,
    x: Value,
    least: Value | None,
    largest: Value | None,
) -> Value:
    """g where x is within the range that is represented; everywhere where the range is made to fit x."""
    if least is None or largest is None:
        return g
    return np.where(np.logical_and(x >= least, x <= largest), g, 0.0)


rules.vjp("DequantizeLinear", None, None, None, straight_through, domain=DOMAIN)
rules.vjp("DynamicQuantizeLinear")  # the scale that it makes is taken as it is
