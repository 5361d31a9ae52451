"""Normalizations: the deviation that they divide by counts as a constant (Ali et al. 2022), so that they are
sums and factors.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from onnxcam.autodiff.lowering.axes import spatial_axes
from onnxcam.autodiff.lowering.standardization import mean_over, to_float32
from onnxcam.autodiff.rule_table import Absorb, Rules
from onnxcam.autodiff.rules.group_norm import per_channel, split_groups
from onnxcam.autodiff.tables._lrp.shares import divide, passed, share_of_input
from onnxcam.graph.tracing import Value

Outputs: TypeAlias = tuple[Value | None, ...]

rules = Rules()


def centered_vjp(r: Value, x: Value, axes: Sequence[int]) -> Value:
    """The relevance of x, given that of x minus its mean."""
    x, r = to_float32(x), to_float32(r)
    part = divide(r, x - mean_over(x, axes))
    return x * (part - mean_over(part, axes))


def layer_norm_vjp(
    rs: Outputs, ys: Outputs, x: Value, scale: Value, b: Value | None, *, axis: int, absorb: Absorb
) -> Value | None:
    """LayerNormalization-17, y = scale f (x - mean x) + b: what the bias leaves, through the mean. The
    relevance of the outputs mean and f, which hardly any model reads, is absorbed.
    """
    if rs[0] is None or ys[0] is None:
        return None
    r, y = to_float32(rs[0]), to_float32(ys[0])
    if b is not None:
        r = share_of_input(r, y - to_float32(b), to_float32(b), absorb)
    return centered_vjp(r, x, range(axis % x.ndim, x.ndim))


def instance_norm_vjp(
    r: Value, y: Value, x: Value, scale: Value, b: Value, *, absorb: Absorb
) -> Value:
    """InstanceNormalization-22: the same for the pixels of a channel."""
    bias = per_channel(b, x)
    r = share_of_input(to_float32(r), to_float32(y) - bias, bias, absorb)
    return centered_vjp(r, x, spatial_axes(x))


def group_norm_vjp(
    r: Value, y: Value, x: Value, scale: Value, b: Value, *, num_groups: int, absorb: Absorb
) -> Value:
    """GroupNormalization-21: the same for groups of channels."""
    bias = per_channel(b, x)
    r = share_of_input(to_float32(r), to_float32(y) - bias, bias, absorb)
    groups = split_groups(x, num_groups)
    return x.build.reshape_like(centered_vjp(split_groups(r, num_groups), groups, (2,)), x)


def mean_variance_norm_vjp(r: Value, y: Value, x: Value, *, axes: Sequence[int]) -> Value:
    """MeanVarianceNormalization-13: through the mean."""
    return centered_vjp(r, x, axes)


rules.outputs("LayerNormalization", layer_norm_vjp)
rules.vjp("InstanceNormalization", instance_norm_vjp)
rules.vjp("GroupNormalization", group_norm_vjp)
rules.vjp("MeanVarianceNormalization", mean_variance_norm_vjp)
for operator in ("RMSNormalization", "LpNormalization", "LRN"):
    rules.vjp(operator, passed)
