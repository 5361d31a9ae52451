"""Reductions: the cotangent is broadcast over the axes that were reduced."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from onnxcam.arrays import Array
from onnxcam.autodiff.lowering.axes import divide_evenly, spatial_axes
from onnxcam.autodiff.rule_table import Rules, Vjp
from onnxcam.errors import ModelError
from onnxcam.graph import anp
from onnxcam.graph.slicing import broadcast_like, with_axes
from onnxcam.graph.tracing import Value

Axes: TypeAlias = Sequence[int] | Array | None
KeepdimsVjp: TypeAlias = Callable[[Value, Value, Value, tuple[int, ...]], Value]

rules = Rules()


def reduced_axes(x: Value, axes: Axes | Value, noop: int | None) -> tuple[int, ...]:
    """The axes that a Reduce operator reduces, counted from the front."""
    if isinstance(axes, Value):
        raise ModelError(
            f"the reduction that reads {x.name!r} needs fixed axes; export the model with fixed axes"
        )
    axes = () if axes is None else tuple(int(axis) % x.ndim for axis in axes)
    return axes if axes or noop else tuple(range(x.ndim))


def reduction(vjp: KeepdimsVjp, *, reads_axes: bool = True) -> Vjp:
    """The rule of a reduction, from one for g and y with the reduced axes kept as 1. A rule that does not read
    the axes needs them only if they are not kept.
    """

    def reduction_vjp(
        g: Value,
        y: Value,
        x: Value,
        *,
        axes: Axes,
        keepdims: int,
        noop_with_empty_axes: int | None,
    ) -> Value:
        if keepdims and not reads_axes:
            return vjp(g, y, x, ())
        reduced = reduced_axes(x, axes, noop_with_empty_axes)
        if not keepdims and reduced:
            g, y = (with_axes("Unsqueeze", value, sorted(reduced)) for value in (g, y))
        return vjp(g, y, x, reduced)

    return reduction_vjp


def split_ties(g: Value, y: Value, x: Value, axes: tuple[int, ...]) -> Value:
    """All elements that equal the extremum get the same share, as in torch.amax."""
    chosen = anp.logical_not(anp.logical_or(x < y, x > y)).astype(x.dtype)
    return g * chosen / anp.sum(chosen, axis=axes, keepdims=True)


def product_vjp(g: Value, y: Value, x: Value, axes: tuple[int, ...]) -> Value:
    """The product of the other elements: y / x without zeros; nonzero only at a single zero; else 0."""
    zero = anp.logical_not(anp.logical_or(x < 0, x > 0))
    zeros = anp.sum(zero.astype(x.dtype), axis=axes, keepdims=True)
    nonzero = anp.prod(anp.where(zero, 1.0, x), axis=axes, keepdims=True)
    at_zero = anp.where(zeros < 1.5, nonzero, 0.0)
    elsewhere = anp.where(zeros < 0.5, nonzero / anp.where(zero, 1.0, x), 0.0)
    return g * anp.where(zero, at_zero, elsewhere)


REDUCTIONS: dict[str, KeepdimsVjp] = {
    "ReduceSum": lambda g, y, x, axes: broadcast_like(g, x),
    "ReduceMean": lambda g, y, x, axes: divide_evenly(g, x, axes),
    "ReduceSumSquare": lambda g, y, x, axes: g * (x + x),
    "ReduceL1": lambda g, y, x, axes: g * anp.sign(x),
    "ReduceL2": lambda g, y, x, axes: anp.where(y > 0, g / anp.where(y > 0, y, 1.0), 0.0) * x,
    "ReduceLogSum": lambda g, y, x, axes: broadcast_like(g / anp.exp(y), x),
    "ReduceLogSumExp": lambda g, y, x, axes: g * anp.exp(x - y),
    "ReduceMax": split_ties,
    "ReduceMin": split_ties,
    "ReduceProd": product_vjp,
}
READ_AXES = ("ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd")
for operator, vjp in REDUCTIONS.items():
    rules.vjp(operator, reduction(vjp, reads_axes=operator in READ_AXES))


rules.vjp("GlobalAveragePool", lambda g, y, x: divide_evenly(g, x, spatial_axes(x)))
rules.vjp("GlobalMaxPool", lambda g, y, x: split_ties(g, y, x, spatial_axes(x)))
