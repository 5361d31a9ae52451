"""Activations. Rules read only the output where it suffices: the runtime can then fuse them into Conv."""

from __future__ import annotations

import math

import numpy as np

from onnxcam.arrays import Array
from onnxcam.autodiff.lowering.masks import hard_sigmoid, lerp, mask_above, mask_below
from onnxcam.autodiff.rule_table import Rules
from onnxcam.graph import anp
from onnxcam.graph.reachability import producer
from onnxcam.graph.tracing import Value
from onnxcam.passes.ort.activation import TANH_CUBIC, TANH_SCALE, gelu_tanh

rules = Rules()
vjp = rules.vjp


def sigmoid(x: Value) -> Value:
    """The logistic function."""
    return x.build.op("Sigmoid", x)


# Rectifiers: 0 at the kink, as in torch


def leaky_relu_vjp(g: Value, y: Value, x: Value, *, alpha: float) -> Value:
    """Slope 1 for x > 0, else alpha; y has the sign of x unless alpha < 0."""
    if alpha == 1:
        return g
    if 0 <= alpha < 1:
        return g * lerp(mask_above(y), alpha, 1.0)
    return anp.where(x > 0, g, g * alpha)


vjp("Relu", lambda g, y, x: g * mask_above(y))
vjp("LeakyRelu", leaky_relu_vjp)
vjp(
    "PRelu",
    lambda g, y, x, slope: anp.where(x > 0, g, g * slope),
    lambda g, y, x, slope: anp.where(x > 0, 0.0, g * x),
)
vjp("ThresholdedRelu", lambda g, y, x, *, alpha: g * mask_above(x, alpha))
vjp("Elu", lambda g, y, x, *, alpha: anp.where(x > 0, g, g * (y + alpha)))
vjp("Selu", lambda g, y, x, *, alpha, gamma: g * anp.where(x > 0, gamma, y + gamma * alpha))
vjp("Celu", lambda g, y, x, *, alpha: g * anp.where(x > 0, 1.0, y / alpha + 1.0))

# Piecewise linear with two kinks
LARGEST = 3.4e38  # a bound of this size or larger is none: Clip-6's defaults are the extreme floats


def clip_vjp(g: Value, y: Value, x: Value, *, min: Value | None, max: Value | None) -> Value:  # noqa: A002
    """1 strictly between the bounds, as torch's relu6 and hardtanh (torch.clamp has 1 at them, too)."""
    masks = [mask_above(y, low) for low in _bounds(min)]
    masks += [mask_below(y, high) for high in _bounds(max)]
    return g * math.prod(masks[1:], start=masks[0]) if masks else g


def _bounds(bound: Value | Array | float | None) -> list[Value | float]:
    """One bound, or none."""
    if bound is None or isinstance(bound, Value):
        return [] if bound is None else [bound]
    number = float(np.ravel(bound)[0])  # some exporters write a bound as an array of one
    return [] if abs(number) >= LARGEST else [number]


vjp("Clip", clip_vjp)


def hard_sigmoid_vjp(g: Value, y: Value, x: Value, *, alpha: float) -> Value:
    """alpha where y is strictly between 0 and 1."""
    mask = mask_above(y) * mask_below(y, 1.0)
    return g * (lerp(mask, 0.0, alpha) if 0 <= alpha <= 1 else mask * alpha)


vjp("HardSigmoid", hard_sigmoid_vjp)


def hard_swish_vjp(g: Value, y: Value, x: Value) -> Value:
    """x h with h = x / 6 + 1/2 clipped to 0 and 1: h + x / 6 where it is not clipped."""
    mask = mask_above(x, -3.0) * mask_below(x, 3.0)
    return g * (hard_sigmoid(x, 1 / 6, 0.5) + x * lerp(mask, 0.0, 1 / 6))


vjp("HardSwish", hard_swish_vjp)
vjp("Shrink", lambda g, y, x, *, lambd: g * mask_above(anp.abs(x), lambd))

# Smooth

vjp("Sigmoid", lambda g, y, x: g * (y * (1.0 - y)))
vjp("Softplus", lambda g, y, x: g * sigmoid(x))
vjp("Softsign", lambda g, y, x: g * anp.square(1.0 - anp.abs(y)))


def mish_vjp(g: Value, y: Value, x: Value) -> Value:
    """x tanh(softplus x): t + x sigmoid(x) (1 - t^2), t = tanh(softplus x)."""
    t = anp.tanh(x.build.op("Softplus", x))
    return g * (t + x * sigmoid(x) * (1.0 - t * t))


def swish_vjp(g: Value, y: Value, x: Value, *, alpha: float) -> Value:
    """x s with s = sigmoid(alpha x): s + alpha y (1 - s)."""
    s = sigmoid(x * alpha)
    return g * (s + y * (1.0 - s) * alpha)


def gelu_vjp(g: Value, y: Value, x: Value, *, approximate: str) -> Value:
    """x Phi(x): Phi + x phi; or its tanh form (Hendrycks and Gimpel 2016)."""
    if approximate == "tanh":
        t, cubic = gelu_tanh(x), 1.0 + 3 * TANH_CUBIC * x * x
        return g * (0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * TANH_SCALE * cubic)
    phi = anp.exp(-0.5 * x * x) / np.sqrt(2 * np.pi)
    return g * (0.5 * (1.0 + x.build.op("Erf", x / np.sqrt(2.0))) + x * phi)


vjp("Mish", mish_vjp)
vjp("Swish", swish_vjp)
vjp("Gelu", gelu_vjp)

# Distributions


def softmax_axes(x: Value, axis: int | None) -> tuple[int, ...]:
    """The axes that Softmax sums over: one from opset 13; all from `axis` on before."""
    if x.build.opset >= 13:
        return (-1 if axis is None else axis,)
    return tuple(range((1 if axis is None else axis) % x.ndim, x.ndim))


def softmax_vjp(g: Value, y: Value, x: Value, *, axis: int) -> Value:
    """y (g - sum g y)."""
    finite_y = _without_nan(y, softmax_axes(x, axis))
    y = y if finite_y is None else finite_y
    return y * (g - anp.sum(g * y, axis=softmax_axes(x, axis), keepdims=True))


def _without_nan(y: Value, axes: tuple[int, ...]) -> Value | None:
    """y with the zeros that the model itself writes into fully masked rows, where y is NaN (torch's safe
    softmax). None if the model does not, if they may be other rows, or if something else reads y.
    """
    readers = {id(node): node for node in y.tensor.outputs}.values()
    wheres = [node for node in readers if node.op == "Where" and node.inputs[2] is y.tensor]
    if len(wheres) != 1 or any(node.op not in ("Where", "IsNaN") for node in readers):
        return None
    condition, replacement, _ = (Value(y.build, tensor) for tensor in wheres[0].inputs)
    writer = producer(condition.tensor)
    is_nan = writer is not None and writer.op == "IsNaN" and writer.inputs[0] is y.tensor
    is_by_row = condition.ndim == y.ndim and all(condition.shape[axis] == 1 for axis in axes)
    are_zeros = replacement.constant is not None and not np.any(replacement.constant)
    return Value(y.build, wheres[0].outputs[0]) if are_zeros and (is_nan or is_by_row) else None


def log_softmax_vjp(g: Value, y: Value, x: Value, *, axis: int) -> Value:
    """g - exp(y) sum g."""
    return g - anp.exp(y) * anp.sum(g, axis=softmax_axes(x, axis), keepdims=True)


vjp("Softmax", softmax_vjp)
vjp("LogSoftmax", log_softmax_vjp)
