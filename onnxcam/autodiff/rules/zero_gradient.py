"""Operators from floats to floats whose derivative is zero, or treated as zero: rows without functions.

`autodiff/unsupported.py` has the reason for each.
"""

from __future__ import annotations

from onnxcam.autodiff.rule_table import Rules
from onnxcam.graph.operators import operators_with

rules = Rules()

for operator in (
    *sorted(operators_with(lambda traits: traits.zero_gradient == "step")),
    "EyeLike",  # reads the shape only
    "DynamicQuantizeLinear",  # its scale is treated as a constant
):
    rules.vjp(operator)
