"""Masks of ones and zeros, in the operators that runtimes run fastest.

On ONNX Runtime's CPU provider `Where(x > 0, g, 0)` takes 20 times as long as `g * HardSigmoid(x)`, and
moves adjacent convolutions out of their blocked layout. A mask is therefore a factor, and in float32 a
HardSigmoid so steep that it is a step: 0 at the bound and 1 from 2**-100 above it, exactly.
"""

from __future__ import annotations

import onnx_graphsurgeon as gs

from onnxcam.arrays import FLOAT32
from onnxcam.graph.tracing import Value

STEEP = 2.0**100  # float16, whose numbers end at 65504, gets a comparison


def mask_above(x: Value, bound: Value | float = 0.0) -> Value:
    """1 where x > bound and 0 elsewhere, in the dtype of x."""
    if isinstance(bound, Value) or x.dtype != FLOAT32:
        return (x > bound).astype(x.dtype)
    return hard_sigmoid(x, STEEP, -STEEP * bound)


def mask_below(x: Value, bound: Value | float) -> Value:
    """1 where x < bound and 0 elsewhere, in the dtype of x."""
    if isinstance(bound, Value) or x.dtype != FLOAT32:
        return (x < bound).astype(x.dtype)
    return hard_sigmoid(x, -STEEP, STEEP * bound)


def is_step(node: gs.Node) -> bool:
    """Whether a node is such a mask: a step, whose derivative is 0."""
    return node.op == "HardSigmoid" and abs(float(node.attrs.get("alpha", 0.0))) >= STEEP


def lerp(share: Value, at_zero: float, at_one: float) -> Value:
    """From `at_zero` where the share is 0 to `at_one` where it is 1, both of them 0 to 1."""
    if share.dtype != FLOAT32:
        return share * (at_one - at_zero) + at_zero
    return hard_sigmoid(share, at_one - at_zero, at_zero)


def hard_sigmoid(x: Value, slope: float, offset: float) -> Value:
    """slope x + offset, clipped to 0 and 1."""
    return x.build.op("HardSigmoid", x, alpha=slope, beta=offset)
