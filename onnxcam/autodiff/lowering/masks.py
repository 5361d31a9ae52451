"""Masks of ones and zeros, in the operators that runtimes run fastest.

On ONNX Runtime's CPU provider `Where(x > 0, g, 0)` takes 20 times as long as `g * HardSigmoid(x)`, and
moves adjacent convolutions out of their blocked layout. A mask is therefore a factor, and in float32 a
HardSigmoid so steep that it is a step: 0 at the bound and 1 from 2**-100 above it, exactly.

No HardSigmoid here has a slope or an offset of 0: OpenVINO 2026.4 computes them as the defaults, 0.2 and 0.5,
without a word. Tiny offsets are no way out, because ONNX Runtime is many times slower on subnormal numbers.
"""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from onnxcam.arrays import FLOAT32
from onnxcam.graph.tracing import Value

STEEP = 2.0**100  # float16, whose numbers end at 65504, gets a comparison
STEP_BOUNDS = (
    2.0**-76,
    2.0**27,
)  # STEEP times these is a float32, and a step leads to the next float32
ZERO_SLOPE, ZERO_OFFSET = 2.0**101, -1.0  # the step at 0: 0 at 2**-101 and 1 at 2**-100


def mask_above(x: Value, bound: Value | float = 0.0) -> Value:
    """1 where x > bound and 0 elsewhere, in the dtype of x."""
    if isinstance(bound, Value) or not _is_step_bound(x, bound):
        return (x > bound).astype(x.dtype)
    return _step(x, 1, bound)


def mask_below(x: Value, bound: Value | float) -> Value:
    """1 where x < bound and 0 elsewhere, in the dtype of x."""
    if isinstance(bound, Value) or not _is_step_bound(x, bound):
        return (x < bound).astype(x.dtype)
    return _step(x, -1, bound)


def _is_step_bound(x: Value, bound: float) -> bool:
    low, high = STEP_BOUNDS
    return x.dtype == FLOAT32 and (bound == 0 or low <= abs(bound) <= high)


def _step(x: Value, sign: int, bound: float) -> Value:
    """A mask that rises (1) or falls (-1) at a bound."""
    if bound == 0:
        return hard_sigmoid(x, sign * ZERO_SLOPE, ZERO_OFFSET)
    return hard_sigmoid(x, sign * STEEP, -sign * STEEP * bound)


def is_step(node: gs.Node) -> bool:
    """Whether a node is such a mask: a step, whose derivative is 0."""
    return node.op == "HardSigmoid" and abs(float(node.attrs.get("alpha", 0.0))) >= STEEP


def step_bound(step: gs.Node, sign: int) -> float | None:
    """The bound of a mask that rises (1) or falls (-1) there, as the functions above write it."""
    slope, offset = step.attrs.get("alpha"), step.attrs.get("beta")
    if (slope, offset) == (sign * ZERO_SLOPE, ZERO_OFFSET):
        return 0.0
    return -offset / slope if slope == sign * STEEP and offset is not None else None


def lerp(share: Value, at_zero: float, at_one: float) -> Value:
    """From `at_zero` where the share is 0 to `at_one` where it is 1, both of them 0 to 1; exact there."""
    if (at_zero, at_one) == (0.0, 1.0):
        return share
    if share.dtype != FLOAT32 or (at_zero == 0 and at_one < 1 / STEEP):
        return share * (at_one - at_zero) + at_zero
    if at_zero == 0:
        spacing = _spacing(np.float32(at_one))
        return hard_sigmoid(share, float(np.float32(at_one)) + spacing, -spacing)
    return hard_sigmoid(share, at_one - at_zero, at_zero)


def _spacing(level: np.float32) -> float:
    """From a float32 to the next one."""
    return float(np.spacing(level))


def level_of(share: gs.Node) -> float | None:
    """The number at 1 of a `lerp` that is 0 at 0."""
    slope, offset = share.attrs.get("alpha"), share.attrs.get("beta")
    if slope is None or offset is None or not 0 < slope + offset <= 1:
        return None
    level = np.float32(slope + offset)
    return float(level) if offset == -_spacing(level) else None


def hard_sigmoid(x: Value, slope: float, offset: float) -> Value:
    """slope x + offset, clipped to 0 and 1."""
    return x.build.op("HardSigmoid", x, alpha=slope, beta=offset)
