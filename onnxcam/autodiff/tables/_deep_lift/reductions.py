"""Reductions that are not linear, and pools."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeAlias

from onnxcam.autodiff.lowering.axes import spatial_axes
from onnxcam.autodiff.lowering.standardization import to_float32
from onnxcam.autodiff.lowering.window_sums import channels_of_sums, window_sum_vjp
from onnxcam.autodiff.rule_table import Reference, Rules, Vjp
from onnxcam.autodiff.rules.max_pool import max_pool_vjp
from onnxcam.autodiff.rules.reduce import Axes, reduced_axes, split_ties
from onnxcam.autodiff.tables._deep_lift.secant import difference, quotient, secant
from onnxcam.autodiff.tables._deep_lift.softmax import finite, log_sum_exp_weights
from onnxcam.graph import anp
from onnxcam.graph.slicing import broadcast_like, with_axes
from onnxcam.graph.tracing import Value
from onnxcam.graph.window import Window

Pair: TypeAlias = tuple[Value, Value]  # a value and its reference
PairVjp: TypeAlias = Callable[[Value, Pair, Pair, tuple[int, ...]], Value]
"""The multiplier of x, given g, (y, y'), (x, x') and the axes, which g and y keep."""

rules = Rules()


def reduction(vjp: PairVjp) -> Vjp:
    """The rule of a reduction."""

    def reduction_vjp(
        g: Value,
        y: Value,
        x: Value,
        *,
        axes: Axes,
        keepdims: int,
        noop_with_empty_axes: int | None,
        reference: Reference,
    ) -> Value:
        reduced, y0 = reduced_axes(x, axes, noop_with_empty_axes), reference(y)
        if not keepdims and reduced:
            g, y, y0 = (with_axes("Unsqueeze", value, sorted(reduced)) for value in (g, y, y0))
        return vjp(g, (y, y0), (x, reference(x)), reduced)

    return reduction_vjp


# Sums of a function of each element


def sum_squares(g: Value, ys: Pair, xs: Pair, axes: tuple[int, ...]) -> Value:
    """The sum of x^2: g (x + x')."""
    return g * (xs[0] + xs[1])


def norm_1(g: Value, ys: Pair, xs: Pair, axes: tuple[int, ...]) -> Value:
    """The sum of |x|."""
    return g * power_slope(*xs, p=1)


def norm_2(g: Value, ys: Pair, xs: Pair, axes: tuple[int, ...]) -> Value:
    """The root of the sum of x^2: g (x + x') / (y + y'), and 0 where both are 0."""
    total = ys[0] + ys[1]
    return anp.where(total > 0, g / anp.where(total > 0, total, 1.0), 0.0) * (xs[0] + xs[1])


def log_sum(g: Value, ys: Pair, xs: Pair, axes: tuple[int, ...]) -> Value:
    """The logarithm of the sum of x."""
    y, y0 = map(to_float32, ys)
    sums, sums0 = anp.exp(y), anp.exp(y0)
    return broadcast_like(secant(to_float32(g) * (y - y0), sums, sums0, g / sums), xs[0])


def log_sum_exp(g: Value, ys: Pair, xs: Pair, axes: tuple[int, ...]) -> Value:
    """The logarithm of the sum of exp(x), as in Softmax."""
    return to_float32(g) * log_sum_exp_weights(finite(xs[0]), finite(xs[1]), axes)[0]


def power_slope(x: Value, x0: Value, p: int) -> Value:
    """(|x|^p - |x'|^p) / (x - x')."""
    if p == 2:
        return to_float32(x) + to_float32(x0)
    a, a0 = anp.abs(to_float32(x)), anp.abs(to_float32(x0))
    if p == 1:
        return quotient(a - a0, x, x0, anp.sign(x))
    return secant(a ** float(p) - a0 ** float(p), x, x0, anp.sign(x) * p * a ** (p - 1.0))


# Extrema


def extremum(
    larger: Callable[[Value, Value], Value], g: Value, ys: Pair, xs: Pair, axes: tuple[int, ...]
) -> Value:
    """With m = max(y, y'), g (m - y') to the maximum of x, and g (y - m) to that of x', over x - x'.

    Equal maxima get equal shares.
    """
    (y, y0), (x, x0) = ys, xs
    m = larger(y, y0)
    rise = split_ties(g * (m - y0), y, x, axes) + split_ties(g * (y - m), y0, x0, axes)
    return quotient(to_float32(rise), x, x0, split_ties(g, y, x, axes))


maximum, minimum = partial(extremum, anp.maximum), partial(extremum, anp.minimum)
REDUCTIONS: dict[str, PairVjp] = {
    "ReduceSumSquare": sum_squares,
    "ReduceL1": norm_1,
    "ReduceL2": norm_2,
    "ReduceLogSum": log_sum,
    "ReduceLogSumExp": log_sum_exp,
    "ReduceMax": maximum,
    "ReduceMin": minimum,
}
for operator, vjp in REDUCTIONS.items():
    rules.vjp(operator, reduction(vjp))

# Pools


def global_max_pool_vjp(g: Value, y: Value, x: Value, *, reference: Reference) -> Value:
    """The maximum over the spatial axes."""
    return maximum(g, (y, reference(y)), (x, reference(x)), spatial_axes(x))


def max_pool_rule(
    g: Value,
    y: Value,
    x: Value,
    *,
    window: Window,
    storage_order: int | None,
    reference: Reference,
) -> Value:
    """As for an extremum, for every window; of equal maxima, the first."""
    x0, y0 = reference(x), reference(y)
    m = anp.maximum(y, y0)
    vjp = partial(max_pool_vjp, window=window, storage_order=storage_order)
    rise = vjp(g * (m - y0), y, x) + vjp(g * (y - m), y0, x0)
    return quotient(to_float32(rise), x, x0, vjp(g, y, x))


def root_slope(g: Value, y: Value, p: int, reference: Reference) -> Value:
    """g (y - y') / (y^p - y'^p); 0 where both are 0."""
    if p == 1:
        return g
    wide, wide0 = to_float32(y), to_float32(reference(y))
    total = wide + wide0
    if p == 2:
        return anp.where(total > 0, to_float32(g) / anp.where(total > 0, total, 1.0), 0.0)
    sums, sums0 = wide ** float(p), wide0 ** float(p)
    tangent = anp.where(wide > 0, to_float32(g) / p * wide ** (1.0 - p), 0.0)
    return secant(to_float32(g) * difference(y, reference), sums, sums0, tangent)


def lp_pool_vjp(
    g: Value, y: Value, x: Value, *, window: Window, p: int, reference: Reference
) -> Value:
    """The p-norm of every window: the root, the sum, and the power of each element."""
    h = root_slope(g, y, p, reference).astype(x.dtype)
    sums = window_sum_vjp(h, x, window, channels_of_sums(x, window, "LpPool"))
    return sums * power_slope(x, reference(x), p)


def global_lp_pool_vjp(g: Value, y: Value, x: Value, *, p: int, reference: Reference) -> Value:
    """The p-norm of all pixels."""
    slope = power_slope(x, reference(x), p)
    return broadcast_like(root_slope(g, y, p, reference), slope) * slope


rules.vjp("GlobalMaxPool", global_max_pool_vjp)
rules.vjp("MaxPool", max_pool_rule)
rules.vjp("LpPool", lp_pool_vjp)
rules.vjp("GlobalLpPool", global_lp_pool_vjp)
