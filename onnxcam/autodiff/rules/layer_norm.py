"""LayerNormalization and RMSNormalization: the axes from `axis` on are standardized together."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np

from onnxcam.arrays import FLOAT32
from onnxcam.autodiff.lowering.axes import divide_evenly, element_count
from onnxcam.autodiff.lowering.standardization import Standardization, to_float32
from onnxcam.autodiff.rule_table import Rules
from onnxcam.graph.slicing import full_like
from onnxcam.graph.tracing import Value

ONNX_FLOAT = 1  # onnx.TensorProto.FLOAT
Outputs: TypeAlias = tuple[Value | None, ...]

rules = Rules()


def _axes_from(x: Value, axis: int) -> tuple[int, ...]:
    return tuple(range(axis % x.ndim, x.ndim))


def _standardize(
    ys: Outputs, x: Value, axis: int, epsilon: float, stash_type: int
) -> Standardization:
    """s by the statistics that the node itself returns, where they are float32 and x is no wider."""
    axes = _axes_from(x, axis)
    if x.dtype == np.float64 or stash_type != ONNX_FLOAT:
        return Standardization.compute(x, axes, epsilon)
    y = next(output for output in ys if output is not None)
    shape = tuple(1 if i in axes else dim for i, dim in enumerate(x.shape))
    mean, factor = (y.build.request_output(y, slot, FLOAT32, shape) for slot in (1, 2))
    return Standardization((to_float32(x) - mean) * factor, factor, axes)


def layer_norm_vjp_input(
    gs: Outputs, ys: Outputs, x: Value, scale: Value, *, axis: int, epsilon: float, stash_type: int
) -> Value:
    """LayerNormalization-17, y = scale s + b, and its outputs m and f, s = f (x - m) over n elements.

    The sum of the shares of y (through s), of m (g / n) and of f (df/dx = -f^2 s / n).
    """
    standard = _standardize(ys, x, axis, epsilon, stash_type)
    g_y, g_mean, g_factor = (*gs, None, None)[:3]
    terms = []
    if g_y is not None:
        terms.append(standard.vjp(to_float32(g_y) * to_float32(scale)))
    if g_mean is not None:
        terms.append(divide_evenly(g_mean, x, standard.axes))
    if g_factor is not None:
        slope = -g_factor * standard.factor * standard.factor
        terms.append(slope / element_count(x, standard.axes) * standard.s)
    return sum(terms[1:], start=terms[0])


def layer_norm_vjp_scale(
    gs: Outputs, ys: Outputs, x: Value, scale: Value, *, axis: int, epsilon: float, stash_type: int
) -> Value:
    """g s."""
    standard = _standardize(ys, x, axis, epsilon, stash_type)
    return full_like(scale, 0.0) if gs[0] is None else to_float32(gs[0]) * standard.s


def layer_norm_vjp_bias(gs: Outputs, ys: Outputs, x: Value, scale: Value, bias: Value) -> Value:
    """g."""
    return full_like(bias, 0.0) if gs[0] is None else gs[0]


rules.outputs("LayerNormalization", layer_norm_vjp_input, layer_norm_vjp_scale, layer_norm_vjp_bias)


def rms_norm_vjp_input(
    g: Value, y: Value, x: Value, scale: Value, *, axis: int, epsilon: float
) -> Value:
    """RMSNormalization-23, y = scale s with s = f x: as in LayerNormalization, with 0 as the mean."""
    standard = Standardization.compute(x, _axes_from(x, axis), epsilon, centered=False)
    return standard.vjp(to_float32(g) * to_float32(scale))


def rms_norm_vjp_scale(
    g: Value, y: Value, x: Value, scale: Value, *, axis: int, epsilon: float
) -> Value:
    """g s."""
    standard = Standardization.compute(x, _axes_from(x, axis), epsilon, centered=False)
    return to_float32(g) * standard.s


rules.vjp("RMSNormalization", rms_norm_vjp_input, rms_norm_vjp_scale)
