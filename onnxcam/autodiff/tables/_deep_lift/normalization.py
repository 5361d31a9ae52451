"""Normalizations through their parts: s = c f, where f = 1 / d and d is the root of a sum of squares of c."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from onnxcam.autodiff.lowering.axes import divide_evenly, element_count, spatial_axes
from onnxcam.autodiff.lowering.standardization import mean_over, to_float32
from onnxcam.autodiff.rule_table import Reference, Rules
from onnxcam.autodiff.rules.group_norm import per_channel, split_groups, sum_per_channel
from onnxcam.autodiff.rules.lrn import mix_channels, window_matrix
from onnxcam.autodiff.tables._deep_lift.reductions import power_slope
from onnxcam.autodiff.tables._deep_lift.secant import midpoint, secant
from onnxcam.graph import anp
from onnxcam.graph.slicing import full_like
from onnxcam.graph.tracing import Value

Outputs: TypeAlias = tuple[Value | None, ...]

TINY = 1e-30  # less than any deviation that is not 0

rules = Rules()


@dataclass(frozen=True)
class Standardized:
    """x and its reference, standardized over some axes."""

    centered: Value
    centered0: Value
    deviation: Value
    deviation0: Value
    axes: Sequence[int]
    has_mean: bool = True

    @classmethod
    def compute(
        cls,
        x: Value,
        x0: Value,
        axes: Sequence[int],
        epsilon: float = 0.0,
        *,
        has_mean: bool = True,
    ) -> Standardized:
        """c = x - mean x, or x itself, and d = sqrt(mean c^2 + epsilon)."""
        x, x0 = to_float32(x), to_float32(x0)
        if has_mean:
            x, x0 = x - mean_over(x, axes), x0 - mean_over(x0, axes)
        d, d0 = (anp.sqrt(mean_over(c * c, axes) + epsilon) for c in (x, x0))
        return cls(x, x0, d, d0, axes, has_mean)

    @property
    def factors(self) -> tuple[Value, Value]:
        """f and f'. Where d is 0, so is c, and any f will do: that of the other image."""
        d, d0 = self.deviation, self.deviation0
        least = anp.where(d > 0, d, anp.where(d0 > 0, d0, 1.0))
        least0 = anp.where(d0 > 0, d0, least)
        return 1.0 / least, 1.0 / least0

    @property
    def s(self) -> Value:
        """c f halfway between the images."""
        f, f0 = self.factors
        return (self.centered * f + self.centered0 * f0) * 0.5

    def vjp(self, h: Value, to_factor: Value | None = None) -> Value:
        """The cotangent of x, given that of s, and one that f has from elsewhere."""
        f, f0 = self.factors
        total = self.centered + self.centered0
        by_factor = anp.sum(h * total * 0.5, axis=self.axes, keepdims=True)
        by_factor = by_factor if to_factor is None else by_factor + to_factor
        d, d0 = self.deviation, self.deviation0
        # (f - f') / (d^2 - d'^2)
        slope = anp.where(anp.minimum(d, d0) > 0, -(f * f0) / anp.maximum(d + d0, TINY), 0.0)
        share = by_factor * slope / element_count(total, self.axes)
        cotangent = h * ((f + f0) * 0.5) + share * total
        return cotangent - mean_over(cotangent, self.axes) if self.has_mean else cotangent


def layer_norm_vjp_input(
    gs: Outputs,
    ys: Outputs,
    x: Value,
    scale: Value,
    *,
    axis: int,
    epsilon: float,
    reference: Reference,
) -> Value:
    """y = scale s + b, and its outputs mean and f."""
    axes = tuple(range(axis % x.ndim, x.ndim))
    standard = Standardized.compute(x, reference(x), axes, epsilon)
    g_y, g_mean, g_factor = (*gs, None, None)[:3]
    h = full_like(standard.centered, 0.0)
    if g_y is not None:
        h = to_float32(g_y) * to_float32(midpoint(scale, reference))
    cotangent = standard.vjp(h, g_factor)
    return cotangent if g_mean is None else cotangent + divide_evenly(g_mean, x, axes)


def layer_norm_vjp_scale(
    gs: Outputs,
    ys: Outputs,
    x: Value,
    scale: Value,
    *,
    axis: int,
    epsilon: float,
    reference: Reference,
) -> Value:
    """g s."""
    if gs[0] is None:
        return full_like(scale, 0.0)
    axes = tuple(range(axis % x.ndim, x.ndim))
    return to_float32(gs[0]) * Standardized.compute(x, reference(x), axes, epsilon).s


def layer_norm_vjp_bias(gs: Outputs, ys: Outputs, x: Value, scale: Value, bias: Value) -> Value:
    """g."""
    return full_like(bias, 0.0) if gs[0] is None else gs[0]


rules.outputs("LayerNormalization", layer_norm_vjp_input, layer_norm_vjp_scale, layer_norm_vjp_bias)


def rms_norm_vjp_input(
    g: Value, y: Value, x: Value, scale: Value, *, axis: int, epsilon: float, reference: Reference
) -> Value:
    """The same without the mean."""
    axes = tuple(range(axis % x.ndim, x.ndim))
    standard = Standardized.compute(x, reference(x), axes, epsilon, has_mean=False)
    return standard.vjp(to_float32(g) * to_float32(midpoint(scale, reference)))


def rms_norm_vjp_scale(
    g: Value, y: Value, x: Value, scale: Value, *, axis: int, epsilon: float, reference: Reference
) -> Value:
    """g s."""
    axes = tuple(range(axis % x.ndim, x.ndim))
    return to_float32(g) * Standardized.compute(x, reference(x), axes, epsilon, has_mean=False).s


rules.vjp("RMSNormalization", rms_norm_vjp_input, rms_norm_vjp_scale)


def instance_norm_vjp_input(
    g: Value, y: Value, x: Value, scale: Value, *, epsilon: float, reference: Reference
) -> Value:
    """Over the pixels of a channel."""
    h = to_float32(g) * per_channel(midpoint(scale, reference), x)
    return Standardized.compute(x, reference(x), spatial_axes(x), epsilon).vjp(h)


def instance_norm_vjp_scale(
    g: Value, y: Value, x: Value, scale: Value, *, epsilon: float, reference: Reference
) -> Value:
    """The sum of g s over a channel."""
    standard = Standardized.compute(x, reference(x), spatial_axes(x), epsilon)
    return sum_per_channel(to_float32(g) * standard.s)


def bias_vjp(g: Value, y: Value, x: Value, scale: Value, b: Value) -> Value:
    """The sum of g over a channel."""
    return sum_per_channel(to_float32(g))


rules.vjp("InstanceNormalization", instance_norm_vjp_input, instance_norm_vjp_scale, bias_vjp)


def _by_groups(x: Value, groups: int, epsilon: float, reference: Reference) -> Standardized:
    x0 = split_groups(reference(x), groups)
    return Standardized.compute(split_groups(x, groups), x0, (2,), epsilon)


def group_norm_vjp_input(
    g: Value,
    y: Value,
    x: Value,
    scale: Value,
    *,
    epsilon: float,
    num_groups: int,
    reference: Reference,
) -> Value:
    """Over the elements of a group of channels."""
    standard = _by_groups(x, num_groups, epsilon, reference)
    h = split_groups(to_float32(g) * per_channel(midpoint(scale, reference), x), num_groups)
    return x.build.reshape_like(standard.vjp(h), x)


def group_norm_vjp_scale(
    g: Value,
    y: Value,
    x: Value,
    scale: Value,
    *,
    epsilon: float,
    num_groups: int,
    reference: Reference,
) -> Value:
    """The sum of g s over a channel."""
    standard = _by_groups(x, num_groups, epsilon, reference)
    return sum_per_channel(to_float32(g) * x.build.reshape_like(standard.s, x))


rules.vjp("GroupNormalization", group_norm_vjp_input, group_norm_vjp_scale, bias_vjp)

# Without parameters


def mean_variance_norm_vjp(
    g: Value, y: Value, x: Value, *, axes: Sequence[int], reference: Reference
) -> Value:
    """Over `axes`."""
    return Standardized.compute(x, reference(x), axes).vjp(to_float32(g))


rules.vjp("MeanVarianceNormalization", mean_variance_norm_vjp)


def lp_norm_vjp(g: Value, y: Value, x: Value, *, axis: int, p: int, reference: Reference) -> Value:
    """y = x f with f = 1 / |x|_p. For p = 2, |x| is the root mean square times the root of the size."""
    x, x0, g = to_float32(x), to_float32(reference(x)), to_float32(g)
    if p == 2:
        standard = Standardized.compute(x, x0, (axis,), has_mean=False)
        count = element_count(x, (axis,))
        root = count**0.5 if isinstance(count, float) else anp.sqrt(count)
        return standard.vjp(g / root)
    total, total0 = (anp.sum(anp.abs(v), axis=axis, keepdims=True) for v in (x, x0))
    f = 1.0 / anp.where(total > 0, total, anp.where(total0 > 0, total0, 1.0))
    f0 = 1.0 / anp.where(total0 > 0, total0, anp.where(total > 0, total, 1.0))
    by_factor = anp.sum(g * (x + x0) * 0.5, axis=axis, keepdims=True)
    slope = anp.where(anp.minimum(total, total0) > 0, -(f * f0), 0.0)
    return g * ((f + f0) * 0.5) + by_factor * slope * power_slope(x, x0, p=1)


rules.vjp("LpNormalization", lp_norm_vjp)


def lrn_vjp(
    g: Value,
    y: Value,
    x: Value,
    *,
    size: int,
    alpha: float,
    beta: float,
    bias: float,
    reference: Reference,
) -> Value:
    """y = x q with q = D^-beta, D = bias + alpha/n W(x^2): see `rules/lrn.py`."""
    x0, window = reference(x), window_matrix(x, size)
    d, d0 = (bias + (alpha / size) * mix_channels(v * v, window) for v in (x, x0))
    q, q0 = d**-beta, d0**-beta
    by_q = to_float32(g * (x + x0) * 0.5)
    tangent = by_q * -beta * to_float32(d) ** (-beta - 1.0)
    inner = secant(by_q * to_float32(q - q0), d, d0, tangent).astype(x.dtype)
    mixed = (alpha / size) * mix_channels(inner, window.T)
    return g * (q + q0) * 0.5 + mixed * (x + x0)


rules.vjp("LRN", lrn_vjp)
