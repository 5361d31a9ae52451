"""Operators from floats to floats whose derivative is zero, or treated as zero: rows without functions.

`autodiff/unsupported.py` has the reason for each.
"""

from __future__ import annotations

from onnxcam.autodiff.rule_table import Rules

rules = Rules()

for operator in (
    *("Floor", "Ceil", "Round", "Sign", "Hardmax"),  # step functions
    "EyeLike",  # reads the shape only
    "DynamicQuantizeLinear",  # its scale is treated as a constant
):
    rules.vjp(operator)
