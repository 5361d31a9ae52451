"""DequantizeLinear in the domain of this package: the straight-through estimator.

`passes/quantization/hoist_dequantize.py` writes the node and connects it to the floats it was quantized from.
"""

from __future__ import annotations

from onnxcam.autodiff.rule_table import Rules
from onnxcam.graph import anp
from onnxcam.graph.operators import DOMAIN
from onnxcam.graph.tracing import Value

rules = Rules()


def straight_through_vjp(
    g: Value,
    y: Value,
    quantized: Value,
    scale: Value,
    zero_point: Value | None,
    x: Value,
    low: Value | None,
    high: Value | None,
) -> Value:
    """g where x is in the representable range, else 0. Without bounds the range is fitted to x: all of g."""
    if low is None or high is None:
        return g
    return anp.where(anp.logical_and(x >= low, x <= high), g, 0.0)


rules.vjp("DequantizeLinear", None, None, None, straight_through_vjp, domain=DOMAIN)
