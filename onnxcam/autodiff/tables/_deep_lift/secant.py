"""Secants: the slope of a function between a value and its reference."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from onnxcam.autodiff.lowering.standardization import to_float32
from onnxcam.autodiff.rule_table import Reference, Vjp, with_parameter
from onnxcam.graph import anp
from onnxcam.graph.shape_inference import Dtype
from onnxcam.graph.tracing import Value

HALF_BITS = 2.0**-3.5  # of bfloat16, which NumPy does not have: the root of its epsilon


def secant(rise: Value, x: Value, x0: Value, tangent: Value) -> Value:
    """rise / (x - x'), and `tangent` where the two are nearly equal.

    Near means the root of the dtype's epsilon, relative to x up to 1: 3e-4 in float32. There the rounding of
    the rise (epsilon / distance) is as large as what the tangent misses (distance). Captum's 1e-10, made for
    float64, lies below the distance of neighboring float32 numbers unless x is below 1e-3; in a smooth function
    it would pass the quotients of rounding errors on to the pixels.
    """
    wide, wide0 = to_float32(x), to_float32(x0)
    size = anp.minimum(anp.maximum(anp.abs(wide), anp.abs(wide0)), 1.0)
    run = wide - wide0
    is_far = anp.abs(run) > size * _tolerance(x.dtype)
    return anp.where(is_far, rise / anp.where(is_far, run, 1.0), to_float32(tangent))


def quotient(rise: Value, x: Value, x0: Value, tangent: Value) -> Value:
    """rise / (x - x'), and `tangent` where the two are equal: exact where |rise| <= |x - x'|, as at maxima."""
    run = to_float32(x) - to_float32(x0)
    is_far = anp.abs(run) > 0
    return anp.where(is_far, rise / anp.where(is_far, run, 1.0), to_float32(tangent))


def _tolerance(dtype: Dtype) -> float:
    return HALF_BITS if isinstance(dtype, int) else float(np.sqrt(np.finfo(dtype).eps))


def difference(y: Value, reference: Reference) -> Value:
    """y - y', at least in float32."""
    return to_float32(y) - to_float32(reference(y))


def midpoint(x: Value, reference: Reference) -> Value:
    """(x + x') / 2; x itself if it does not depend on the image."""
    x0 = reference(x)
    return x if x0.tensor is x.tensor else x * 0.5 + x0 * 0.5


def compared(vjp: Vjp) -> Callable[[Vjp], Vjp]:
    """Decorates a function of the parameters of a rule `vjp`, and `reference`: it gets their signature."""
    return with_parameter(vjp, "reference")
