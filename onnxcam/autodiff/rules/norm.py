"""Normalisation: by statistics that are fixed, and by those of the values themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from onnxcam.arrays import Floats
from onnxcam.autodiff.lowering.axes import element_count, spatial_axes
from onnxcam.autodiff.rule_table import Rules
from onnxcam.autodiff.rules.conv import scale_channels
from onnxcam.autodiff.rules.reduce import divide_evenly
from onnxcam.errors import ModelError
from onnxcam.graph.slicing import full_like, refuse_too_many
from onnxcam.graph.value import Value, np

FLOAT = np.dtype(np.float32)
FLOAT_IN_ONNX = 1  # onnx.TensorProto.FLOAT
Outputs: TypeAlias = tuple[Value | None, ...]

rules = Rules()


def batch_normalization(
    g: Value,
    y: Value,
    x: Value,
    scale: Value,
    b: Value,
    mean: Value,
    var: Value,
    *,
    epsilon: float,
    training_mode: int | None,
    is_test: int | None,
    spatial: int | None,
) -> Value:
    """g scale / sqrt(var + epsilon), a number a channel; the statistics are those of training."""
    if training_mode or is_test == 0 or spatial == 0:
        raise ModelError(
            f"the BatchNormalization that writes {y.name!r} uses the statistics of its batch: "
            "export the model in inference mode"
        )
    of_scale, of_var = scale.constant, var.constant
    if of_scale is not None and of_var is not None and not isinstance(x.dtype, int):
        spread = np.sqrt(of_var.astype(np.float64) + epsilon)
        return scale_channels(g, of_scale.astype(np.float64) / spread)
    factor = scale.astype(x.dtype) / np.sqrt(var.astype(x.dtype) + epsilon)
    return g * np.reshape(factor, [-1, *([1] * (x.ndim - 2))])


rules.vjp("BatchNormalization", batch_normalization)


def lrn(
    g: Value, y: Value, x: Value, *, size: int, alpha: float, beta: float, bias: float
) -> Value:
    """With D = bias + alpha/n W(x^2), W the sum over a window of n channels and W' its mirror image:
    g D^-beta - 2 alpha beta / n x W'(g x D^(-beta - 1)).
    """
    channels = x.shape[1]
    if not isinstance(channels, int):
        raise ModelError(f"LRN of {x.name!r}: its number of channels must be fixed")
    refuse_too_many(f"LRN of {x.name!r}", channels, channels)
    band = _band(channels, size)
    divisor = bias + (alpha / size) * _over_channels(x * x, band)
    inner = g * x * divisor ** (-beta - 1.0)
    return g * divisor**-beta - (2 * alpha * beta / size) * x * _over_channels(inner, band.T)


def _band(channels: int, size: int) -> Floats:
    """1 where channel j counts for channel i: floor((n-1)/2) before it, ceil((n-1)/2) behind it."""
    apart = np.arange(channels)[None] - np.arange(channels)[:, None]
    return ((apart >= -((size - 1) // 2)) & (apart <= size // 2)).astype(np.float64)


def _over_channels(value: Value, band: Floats) -> Value:
    kernel = value.build.constant(band.reshape(*band.shape, *([1] * (value.ndim - 2))), value.dtype)
    return value.build.op("Conv", value, kernel)


rules.vjp("LRN", lrn)


def to_float32(value: Value) -> Value:
    """Narrow floats as float32: the operators, too, take their statistics in it."""
    narrow = isinstance(value.dtype, int) or value.dtype.itemsize < FLOAT.itemsize
    return value.astype(FLOAT) if narrow else value


def mean(value: Value, axes: Sequence[int]) -> Value:
    """The mean, its axes kept as 1."""
    return np.mean(value, axis=axes, keepdims=True)


@dataclass(frozen=True)
class Standardization:
    """s = f (x - m): values of mean square 1 over `axes`, and the factor f that made them so."""

    s: Value
    factor: Value
    axes: Sequence[int]
    centred: bool = True  # whether m is the mean; else it is 0

    @classmethod
    def compute(
        cls, x: Value, axes: Sequence[int], epsilon: float, *, centred: bool = True
    ) -> Standardization:
        """f = 1 / sqrt(mean (x - m)^2 + epsilon), in two passes, which lose no digits."""
        x = to_float32(x)
        apart = x - mean(x, axes) if centred else x
        factor = 1.0 / np.sqrt(mean(apart * apart, axes) + epsilon)
        return cls(apart * factor, factor, axes, centred)

    def vjp(self, h: Value) -> Value:
        """The cotangent of x, given that of s: f (h - mean h - s mean(h s))."""
        straight = h - mean(h, self.axes) if self.centred else h
        return self.factor * (straight - self.s * mean(h * self.s, self.axes))


def from_axis(x: Value, axis: int) -> tuple[int, ...]:
    """The axes from `axis` on."""
    return tuple(range(axis % x.ndim, x.ndim))


def layer_standard(
    ys: Outputs, x: Value, axis: int, epsilon: float, stash_type: int
) -> Standardization:
    """By the statistics of the node itself, where they are in float32 and x is no wider."""
    axes = from_axis(x, axis)
    if x.dtype == np.float64 or stash_type != FLOAT_IN_ONNX:
        return Standardization.compute(x, axes, epsilon)
    y = next(each for each in ys if each is not None)
    shape = tuple(1 if i in axes else dim for i, dim in enumerate(x.shape))
    middle, factor = (y.build.request_output(y, slot, FLOAT, shape) for slot in (1, 2))
    return Standardization((to_float32(x) - middle) * factor, factor, axes)


def layer_normalization(
    gs: Outputs,
    ys: Outputs,
    x: Value,
    scale: Value,
    *,
    axis: int,
    epsilon: float,
    stash_type: int,
) -> Value:
    """From y by way of s; from the mean evenly; from the factor f, whose slope is -f^2 s / n."""
    standard = layer_standard(ys, x, axis, epsilon, stash_type)
    of_y, of_mean, of_factor = (*gs, None, None)[:3]
    found = []
    if of_y is not None:
        found.append(standard.vjp(to_float32(of_y) * to_float32(scale)))
    if of_mean is not None:
        found.append(divide_evenly(of_mean, x, standard.axes))
    if of_factor is not None:
        slope = -of_factor * standard.factor * standard.factor
        found.append(slope / element_count(x, standard.axes) * standard.s)
    return sum(found[1:], start=found[0])


def layer_scale(
    gs: Outputs,
    ys: Outputs,
    x: Value,
    scale: Value,
    *,
    axis: int,
    epsilon: float,
    stash_type: int,
) -> Value:
    """g s."""
    standard = layer_standard(ys, x, axis, epsilon, stash_type)
    return full_like(scale, 0.0) if gs[0] is None else to_float32(gs[0]) * standard.s


def layer_bias(gs: Outputs, ys: Outputs, x: Value, scale: Value, bias: Value) -> Value:
    """g."""
    return full_like(bias, 0.0) if gs[0] is None else gs[0]


rules.outputs("LayerNormalization", layer_normalization, layer_scale, layer_bias)


def rms_normalization(
    g: Value, y: Value, x: Value, scale: Value, *, axis: int, epsilon: float
) -> Value:
    """As LayerNormalization, about 0 instead of the mean."""
    standard = Standardization.compute(x, from_axis(x, axis), epsilon, centred=False)
    return standard.vjp(to_float32(g) * to_float32(scale))


def rms_scale(g: Value, y: Value, x: Value, scale: Value, *, axis: int, epsilon: float) -> Value:
    """g s."""
    return to_float32(g) * Standardization.compute(x, from_axis(x, axis), epsilon, centred=False).s


rules.vjp("RMSNormalization", rms_normalization, rms_scale)


def per_channel(parameter: Value, x: Value) -> Value:
    """One number a channel, in a shape that goes with x."""
    return np.reshape(to_float32(parameter), [-1, *([1] * (x.ndim - 2))])


def over_channel(value: Value) -> Value:
    """The sum for every channel."""
    return np.sum(value, axis=(0, *spatial_axes(value)))


def instance_normalization(g: Value, y: Value, x: Value, scale: Value, *, epsilon: float) -> Value:
    """Every channel of every picture by itself."""
    return Standardization.compute(x, spatial_axes(x), epsilon).vjp(
        to_float32(g) * per_channel(scale, x)
    )


def instance_scale(g: Value, y: Value, x: Value, scale: Value, *, epsilon: float) -> Value:
    """The sum of g s over a channel."""
    return over_channel(to_float32(g) * Standardization.compute(x, spatial_axes(x), epsilon).s)


rules.vjp(
    "InstanceNormalization",
    instance_normalization,
    instance_scale,
    lambda g, y, x, scale, b: over_channel(to_float32(g)),
)


def grouped(value: Value, num_groups: int) -> Value:
    """(N, C, ...) as (N, groups, the rest)."""
    return np.reshape(to_float32(value), [0, num_groups, -1])


def group_normalization(
    g: Value, y: Value, x: Value, scale: Value, *, epsilon: float, num_groups: int
) -> Value:
    """Every group of channels of every picture by itself. (Opset 18 had a number of the scale a group;
    ONNX has taken that version back, and its checker refuses models that use it.)
    """
    standard = Standardization.compute(grouped(x, num_groups), (2,), epsilon)
    h = grouped(to_float32(g) * per_channel(scale, x), num_groups)
    return x.build.reshape_like(standard.vjp(h), x)


def group_scale(
    g: Value, y: Value, x: Value, scale: Value, *, epsilon: float, num_groups: int
) -> Value:
    """The sum of g s over a channel."""
    standard = Standardization.compute(grouped(x, num_groups), (2,), epsilon)
    return over_channel(to_float32(g) * x.build.reshape_like(standard.s, x))


rules.vjp(
    "GroupNormalization",
    group_normalization,
    group_scale,
    lambda g, y, x, scale, b: over_channel(to_float32(g)),
)


def mean_variance_normalization(g: Value, y: Value, x: Value, *, axes: Sequence[int]) -> Value:
    """ONNX adds its 1e-9 to the deviation; where that is 0 nothing is known, and 0 is given."""
    x = to_float32(x)
    apart = x - mean(x, axes)
    deviation = np.sqrt(mean(apart * apart, axes))
    factor = np.where(deviation > 0, 1.0 / (deviation + 1e-9), 0.0)
    return Standardization(to_float32(y), factor, axes).vjp(to_float32(g))


rules.vjp("MeanVarianceNormalization", mean_variance_normalization)


def lp_normalization(g: Value, y: Value, x: Value, *, axis: int, p: int) -> Value:
    """(g - d sum(g y)) / |x|_p, where d is the slope of the norm: sign x, or y; 0 where x is all 0."""
    x, y, g = to_float32(x), to_float32(y), to_float32(g)
    size = np.abs(x) if p == 1 else x * x
    norm = np.sum(size, axis=axis, keepdims=True)
    norm = norm if p == 1 else np.sqrt(norm)
    slope = np.sign(x) if p == 1 else y
    straight = g - slope * np.sum(g * y, axis=axis, keepdims=True)
    return np.where(norm > 0, straight / np.where(norm > 0, norm, 1.0), 0.0)


rules.vjp("LpNormalization", lp_normalization)
