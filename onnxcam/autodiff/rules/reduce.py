"""Reductions: the cotangent is spread over the axes that were reduced."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from onnxcam.arrays import Array
from onnxcam.autodiff.lowering.axes import element_count, spatial_axes
from onnxcam.autodiff.lowering.nchwc import broadcast_spatial, is_blocked
from onnxcam.autodiff.rule_table import Rules, Vjp
from onnxcam.autodiff.rules.conv import scale_channels
from onnxcam.errors import ModelError
from onnxcam.graph.slicing import broadcast_like
from onnxcam.graph.value import Value, np, with_axes

Axes: TypeAlias = Sequence[int] | Array | None
Spread: TypeAlias = Callable[[Value, Value, Value, tuple[int, ...]], Value]

rules = Rules()


def reduced_axes(x: Value, axes: Axes | Value, noop: int | None) -> tuple[int, ...]:
    """The axes that a Reduce operator works on, counted from the front."""
    if isinstance(axes, Value):
        raise ModelError(
            f"a reduction of {x.name!r} takes its axes at run time: fix them on export"
        )
    given = [] if axes is None else [int(each) % x.ndim for each in axes]
    return tuple(given) if given or noop else tuple(range(x.ndim))


def reduction(spread: Spread) -> Vjp:
    """The function of a reduction, from one that is given g and y with the reduced axes kept as 1."""

    def function(
        g: Value,
        y: Value,
        x: Value,
        *,
        axes: Axes,
        keepdims: int,
        noop_with_empty_axes: int | None,
    ) -> Value:
        reduced = reduced_axes(x, axes, noop_with_empty_axes)
        if not keepdims and reduced:
            g, y = (with_axes("Unsqueeze", each, sorted(reduced)) for each in (g, y))
        return spread(g, y, x, reduced)

    return function


def split_ties(g: Value, y: Value, x: Value, axes: tuple[int, ...]) -> Value:
    """A tie is shared evenly, as in torch.amax."""
    chosen = np.logical_not(np.logical_or(x < y, x > y)).astype(x.dtype)
    return g * chosen / np.sum(chosen, axis=axes, keepdims=True)


def product(g: Value, y: Value, x: Value, axes: tuple[int, ...]) -> Value:
    """The product of the others: y / x without zeros; with one zero, that one only; else nothing."""
    zero = np.logical_not(np.logical_or(x < 0, x > 0))
    zeros = np.sum(zero.astype(x.dtype), axis=axes, keepdims=True)
    others = np.prod(np.where(zero, 1.0, x), axis=axes, keepdims=True)
    at_zero = np.where(zeros < 1.5, others, 0.0)
    elsewhere = np.where(zeros < 0.5, others / np.where(zero, 1.0, x), 0.0)
    return g * np.where(zero, at_zero, elsewhere)


def divide_evenly(g: Value, x: Value, axes: Sequence[int]) -> Value:
    """g / n in each of the n elements; of a convolution's g its kernel has the division."""
    total, channels = element_count(x, axes), x.shape[1] if x.ndim > 1 else None
    if isinstance(total, float) and total > 0 and isinstance(channels, int) and is_blocked(g):
        part = scale_channels(g, np.full(channels, 1 / total))
        spread = broadcast_spatial(part, x)
        return broadcast_like(part, x) if spread is None else spread
    return broadcast_like(g, x, total) if isinstance(total, float) else broadcast_like(g / total, x)


SPREADS: dict[str, Spread] = {
    "ReduceSum": lambda g, y, x, axes: broadcast_like(g, x),
    "ReduceMean": lambda g, y, x, axes: divide_evenly(g, x, axes),
    "ReduceSumSquare": lambda g, y, x, axes: g * (x + x),
    "ReduceL1": lambda g, y, x, axes: g * np.sign(x),
    "ReduceL2": lambda g, y, x, axes: np.where(y > 0, g / np.where(y > 0, y, 1.0), 0.0) * x,
    "ReduceLogSum": lambda g, y, x, axes: broadcast_like(g / np.exp(y), x),
    "ReduceLogSumExp": lambda g, y, x, axes: g * np.exp(x - y),
    "ReduceMax": split_ties,
    "ReduceMin": split_ties,
    "ReduceProd": product,
}
for operator, each in SPREADS.items():
    rules.vjp(operator, reduction(each))


rules.vjp("GlobalAveragePool", lambda g, y, x: divide_evenly(g, x, spatial_axes(x)))
rules.vjp("GlobalMaxPool", lambda g, y, x: split_ties(g, y, x, spatial_axes(x)))
