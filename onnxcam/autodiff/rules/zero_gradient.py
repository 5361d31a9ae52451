"""Operators from floats to floats whose derivative is zero, or treated as zero: rows without functions."""

from __future__ import annotations

from onnxcam.autodiff.rule_table import Rules
from onnxcam.graph.operators import TRAITS

rules = Rules()

STEP_FUNCTIONS = [name for name, traits in TRAITS.items() if traits.zero_gradient == "step"]
for operator in STEP_FUNCTIONS:
    rules.vjp(operator)
rules.vjp("EyeLike")  # reads the shape only
rules.vjp("DynamicQuantizeLinear")  # its scale is treated as a constant
