"""Activations, by their output where that decides: the runtime can then still fuse them into Conv."""

from __future__ import annotations

from onnxcam.arrays import Array
from onnxcam.autodiff.lowering.masks import hard_sigmoid, lerp, mask_above, mask_below
from onnxcam.autodiff.lowering.nchwc import affine_1x1, factors, is_blocked, mask_between
from onnxcam.autodiff.rule_table import Rules
from onnxcam.graph.value import Value, np

rules = Rules()
vjp = rules.vjp


def logistic(x: Value) -> Value:
    """The logistic function."""
    return x.build.op("Sigmoid", x)


# Rectifiers: 0 at the kink, as in torch


def leaky(g: Value, y: Value, x: Value, *, alpha: float) -> Value:
    """1 above 0 and alpha below, which y decides unless it is turned round there."""
    if 0 <= alpha <= 1:
        return g * lerp(mask_above(y), alpha, 1.0)
    return np.where(x > 0, g, g * alpha)


vjp("Relu", lambda g, y, x: g * mask_above(y))
vjp("LeakyRelu", leaky)
vjp(
    "PRelu",
    lambda g, y, x, slope: np.where(x > 0, g, g * slope),
    lambda g, y, x, slope: np.where(x > 0, 0.0, g * x),
)
vjp("ThresholdedRelu", lambda g, y, x, *, alpha: g * mask_above(x, alpha))
vjp("Elu", lambda g, y, x, *, alpha: np.where(x > 0, g, g * (y + alpha)))
vjp("Selu", lambda g, y, x, *, alpha, gamma: g * np.where(x > 0, gamma, y + gamma * alpha))
vjp("Celu", lambda g, y, x, *, alpha: g * np.where(x > 0, 1.0, y / alpha + 1.0))

# Hard ones
LOWEST = -3.4e38  # at or below it a bound is none: Clip-6's default is the lowest float


def clip(g: Value, y: Value, x: Value, *, min: Value | None, max: Value | None) -> Value:  # noqa: A002
    """Open strictly between the bounds, as torch's relu6 and hardtanh (torch.clamp is open at them)."""
    lows, highs = _bounds(min, LOWEST), _bounds(max, -LOWEST)
    mask = mask_between(y, lows[0], highs[0]) if lows and highs else None
    if mask is not None:
        return g * mask
    for low in lows:
        g = g * mask_above(y, low)
    for high in highs:
        g = g * mask_below(y, high)
    return g


def _bounds(bound: Value | Array | float | None, none: float) -> list[Value | float]:
    if bound is None or isinstance(bound, Value):
        return [] if bound is None else [bound]
    number = float(np.ravel(bound)[0])  # some exporters write a bound as an array of one
    return [] if abs(number) >= abs(none) else [number]


vjp("Clip", clip)


def hard_sigmoid_vjp(g: Value, y: Value, x: Value, *, alpha: float) -> Value:
    """alpha strictly between 0 and 1."""
    open_there = mask_above(y) * mask_below(y, 1.0)
    return g * (lerp(open_there, 0.0, alpha) if 0 <= alpha <= 1 else open_there * alpha)


vjp("HardSigmoid", hard_sigmoid_vjp)


def hard_swish(g: Value, y: Value, x: Value) -> Value:
    """x h with h = x / 6 + 1/2 cut to 0 and 1: h + x / 6 where it is not cut."""
    cut, between = hard_sigmoid(x, 1 / 6, 0.5), mask_between(x, -3.0, 3.0)
    if between is not None:
        return g * (affine_1x1(x * between, 1 / 6) + cut)
    return g * (cut + x * lerp(mask_above(x, -3.0) * mask_below(x, 3.0), 0.0, 1 / 6))


vjp("HardSwish", hard_swish)
vjp("Shrink", lambda g, y, x, *, lambd: g * mask_above(np.abs(x), lambd))

# Smooth ones


def sigmoid(g: Value, y: Value, x: Value) -> Value:
    """y (1 - y). Where y gates x itself, as in SiLU, g is h x, and h gets the product x y (1 - y), whose
    first part the model has: less to do, and most of it before h, in the layout of the model.
    """
    slope, h, product = lerp(y, 1.0, 0.0), other_factor(g, x), product_of(x, y)
    if h is None or product is None:
        return g * (y * slope)
    if is_blocked(x):  # the sum with h y will be h y (1 + x - x y)
        return h * (y * (affine_1x1(product, -1.0) + x))
    return h * (product * slope)


def other_factor(g: Value, x: Value) -> Value | None:
    """h if g is written as h x."""
    pair = factors(g)
    return pair[0] if pair is not None and pair[1].tensor is x.tensor else None


def product_of(x: Value, y: Value) -> Value | None:
    """What the model writes as x y or y x."""
    for node in y.tensor.outputs:
        if node.op == "Mul" and {id(each) for each in node.inputs} == {id(x.tensor), id(y.tensor)}:
            return Value(x.build, node.outputs[0])
    return None


vjp("Sigmoid", sigmoid)
vjp("Softplus", lambda g, y, x: g * logistic(x))
vjp("Softsign", lambda g, y, x: g * np.square(1.0 - np.abs(y)))


def mish(g: Value, y: Value, x: Value) -> Value:
    """x tanh(softplus x): t + x sigmoid(x) (1 - t^2), t = tanh(softplus x)."""
    t = np.tanh(x.build.op("Softplus", x))
    return g * (t + x * logistic(x) * (1.0 - t * t))


def swish(g: Value, y: Value, x: Value, *, alpha: float) -> Value:
    """x s with s = sigmoid(alpha x): s + alpha y (1 - s)."""
    s = logistic(x * alpha)
    return g * (s + y * lerp(s, 1.0, 0.0) * alpha)


def gelu(g: Value, y: Value, x: Value, *, approximate: str) -> Value:
    """x Phi(x): Phi + x phi; or its tanh form (Hendrycks and Gimpel 2016)."""
    if approximate == "tanh":
        k, c = np.sqrt(2 / np.pi), 0.044715
        t = np.tanh((x + x * x * x * c) * k)
        return g * (0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * k * (1.0 + 3 * c * x * x))
    phi = np.exp(-0.5 * x * x) / np.sqrt(2 * np.pi)
    return g * (0.5 * (1.0 + x.build.op("Erf", x / np.sqrt(2.0))) + x * phi)


vjp("Mish", mish)
vjp("Swish", swish)
vjp("Gelu", gelu)

# Distributions


def axes_of(x: Value, axis: int | None) -> tuple[int, ...]:
    """The axes that Softmax sums over: one from opset 13; all from `axis` on before."""
    if x.build.opset >= 13:
        return (-1 if axis is None else axis,)
    return tuple(range((1 if axis is None else axis) % x.ndim, x.ndim))


def softmax(g: Value, y: Value, x: Value, *, axis: int) -> Value:
    """y (g - sum g y)."""
    y = _zeroed(y, axes_of(x, axis)) or y
    return y * (g - np.sum(g * y, axis=axes_of(x, axis), keepdims=True))


def _zeroed(y: Value, axes: tuple[int, ...]) -> Value | None:
    """y as the model itself sets it to zero in fully masked rows, where y is NaN: torch's safe softmax. None if
    the model does not, if it may be other rows, or if something else reads y, too.
    """
    readers = {id(node): node for node in y.tensor.outputs}.values()
    wheres = [node for node in readers if node.op == "Where" and node.inputs[2] is y.tensor]
    if len(wheres) != 1 or any(node.op not in ("Where", "IsNaN") for node in readers):
        return None
    condition, blank, _ = (Value(y.build, tensor) for tensor in wheres[0].inputs)
    maker = condition.tensor.inputs[0] if condition.tensor.inputs else None
    is_nan = maker is not None and maker.op == "IsNaN" and maker.inputs[0] is y.tensor
    by_row = condition.ndim == y.ndim and all(condition.shape[axis] == 1 for axis in axes)
    zeros = blank.constant is not None and not np.any(blank.constant)
    return Value(y.build, wheres[0].outputs[0]) if zeros and (is_nan or by_row) else None


def log_softmax(g: Value, y: Value, x: Value, *, axis: int) -> Value:
    """g - exp(y) sum g."""
    return g - np.exp(y) * np.sum(g, axis=axes_of(x, axis), keepdims=True)


vjp("Softmax", softmax)
vjp("LogSoftmax", log_softmax)
