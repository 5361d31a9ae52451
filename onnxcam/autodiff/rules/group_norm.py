"""Instance and group normalization: channels, or groups of them, are standardized one by one."""

from __future__ import annotations

from onnxcam.autodiff.lowering.axes import spatial_axes
from onnxcam.autodiff.lowering.standardization import Standardization, to_float32
from onnxcam.autodiff.rule_table import Rules
from onnxcam.graph import anp
from onnxcam.graph.tracing import Value

rules = Rules()


def per_channel(parameter: Value, x: Value) -> Value:
    """A parameter (C,) in a shape that broadcasts over x."""
    return anp.reshape(to_float32(parameter), [-1, *([1] * (x.ndim - 2))])


def sum_per_channel(value: Value) -> Value:
    """The sum (C,) over all axes but the channels."""
    return anp.sum(value, axis=(0, *spatial_axes(value)))


def bias_vjp(g: Value, y: Value, x: Value, scale: Value, b: Value) -> Value:
    """The sum of g over a channel."""
    return sum_per_channel(to_float32(g))


def instance_norm_vjp_input(g: Value, y: Value, x: Value, scale: Value, *, epsilon: float) -> Value:
    """InstanceNormalization-22, y = scale s + b: through s, over the pixels of a channel. Since opset 6."""
    h = to_float32(g) * per_channel(scale, x)
    return Standardization.compute(x, spatial_axes(x), epsilon).vjp(h)


def instance_norm_vjp_scale(g: Value, y: Value, x: Value, scale: Value, *, epsilon: float) -> Value:
    """The sum of g s over a channel."""
    return sum_per_channel(to_float32(g) * Standardization.compute(x, spatial_axes(x), epsilon).s)


rules.vjp("InstanceNormalization", instance_norm_vjp_input, instance_norm_vjp_scale, bias_vjp)


def split_groups(value: Value, num_groups: int) -> Value:
    """(N, C, *spatial) as (N, groups, elements of a group)."""
    return anp.reshape(to_float32(value), [0, num_groups, -1])


def group_norm_vjp_input(
    g: Value, y: Value, x: Value, scale: Value, *, epsilon: float, num_groups: int
) -> Value:
    """GroupNormalization-21, y = scale s + b: through s, over the elements of a group.

    GroupNormalization-18, whose scale had one number for each group, was withdrawn; onnx.checker refuses it.
    """
    standard = Standardization.compute(split_groups(x, num_groups), (2,), epsilon)
    h = split_groups(to_float32(g) * per_channel(scale, x), num_groups)
    return x.build.reshape_like(standard.vjp(h), x)


def group_norm_vjp_scale(
    g: Value, y: Value, x: Value, scale: Value, *, epsilon: float, num_groups: int
) -> Value:
    """The sum of g s over a channel."""
    standard = Standardization.compute(split_groups(x, num_groups), (2,), epsilon)
    return sum_per_channel(to_float32(g) * x.build.reshape_like(standard.s, x))


rules.vjp("GroupNormalization", group_norm_vjp_input, group_norm_vjp_scale, bias_vjp)
