"""Sums, means, and products of numbers at one position."""

from __future__ import annotations

from functools import wraps
from typing import Any

from onnxcam.autodiff.lowering.axes import divide_evenly
from onnxcam.autodiff.rule_table import Absorb, Rules, Vjp
from onnxcam.autodiff.rules import DEFAULT
from onnxcam.autodiff.rules.reduce import reduction
from onnxcam.autodiff.tables._lrp.constants import constant_slot, is_image
from onnxcam.autodiff.tables._lrp.merging import batch_norm_step, is_before_layers, is_merged
from onnxcam.autodiff.tables._lrp.shares import divide, passed, share_of_input, shared
from onnxcam.graph.tracing import Value

rules = Rules()


# Sums


def summand(r: Value, y: Value, a: Value, b: Value, slot: int, absorb: Absorb) -> Value:
    """The share of a summand; beside a constant, by magnitudes. All of r before the first layer, and where the
    constant is merged with a layer.
    """
    x, other = (a, b) if slot == 0 else (b, a)
    if not is_image(other.tensor):
        if is_merged(y.tensor.inputs[0]) or is_before_layers(x.tensor):
            return r
        return share_of_input(r, x, other, absorb)
    part = x * divide(r, y)
    return -part if slot == 1 and y.tensor.inputs[0].op == "Sub" else part


for operator in ("Add", "Sub"):
    rules.vjp(
        operator,
        lambda r, y, a, b, *, absorb: summand(r, y, a, b, 0, absorb),
        lambda r, y, a, b, *, absorb: summand(r, y, a, b, 1, absorb),
    )
rules.variadic("Sum", lambda r, y, *xs, slot: xs[slot] * divide(r, y))
rules.variadic("Mean", lambda r, y, *xs, slot: xs[slot] * divide(r, y) * (1 / len(xs)))


def batch_norm_vjp(
    r: Value,
    y: Value,
    x: Value,
    scale: Value,
    b: Value,
    mean: Value,
    var: Value,
    *,
    absorb: Absorb,
) -> Value:
    """All of r where it is merged with a layer or before the first; else the share of x beside the bias."""
    node = y.tensor.inputs[0]
    step = batch_norm_step(node)
    if step is None or is_merged(node) or is_before_layers(x.tensor):
        return r
    factor, bias = (array.reshape(-1, *[1] * (x.ndim - 2)) for array in step)
    return share_of_input(r, x * factor, x.constant_like(bias), absorb)


rules.vjp("BatchNormalization", batch_norm_vjp)


# Means and other linear functions of one tensor


def evenly_before_layers(vjp: Vjp) -> Vjp:
    """The share of x; before the first layer, the share of its position, whatever it holds there."""
    share = shared(vjp, 0)

    @wraps(vjp)
    def mean_vjp(r: Value, y: Value, x: Value, *others: Value, **settings: Any) -> Value:
        rule = vjp if is_before_layers(x.tensor) else share
        result: Value = rule(r, y, x, *others, **settings)
        return result

    return mean_vjp


MEANS = (
    "AveragePool",
    "GlobalAveragePool",
    "ReduceMean",
    "Resize",
    "Upsample",
    "GridSample",
    "RoiAlign",
)
SUMS = ("ReduceSum", "ReduceL1", "ReduceL2", "LpPool", "GlobalLpPool", "Col2Im", "CumSum")
for operators, wrap in ((MEANS, evenly_before_layers), (SUMS, lambda vjp: shared(vjp, 0))):
    for operator in operators:
        (first, *_) = DEFAULT[operator].functions
        assert first is not None  # noqa: S101
        rules.vjp(operator, wrap(first))

rules.vjp("ReduceProd", reduction(lambda r, y, x, axes: divide_evenly(r, x, axes)))
(_sum_of_squares,) = DEFAULT["ReduceSumSquare"].functions
(_log_of_sum,) = DEFAULT["ReduceLogSum"].functions
assert _sum_of_squares and _log_of_sum  # noqa: S101, PT018


@wraps(_sum_of_squares)
def sum_of_squares_vjp(r: Value, y: Value, x: Value, **settings: Any) -> Value:
    """r x^2 / sum x^2."""
    assert _sum_of_squares is not None  # noqa: S101
    return x * _sum_of_squares(divide(r, y), y, x, **settings) * 0.5


@wraps(_log_of_sum)
def log_of_sum_vjp(r: Value, y: Value, x: Value, **settings: Any) -> Value:
    """r x / sum x."""
    assert _log_of_sum is not None  # noqa: S101
    return x * _log_of_sum(r, y, x, **settings)


rules.vjp("ReduceSumSquare", sum_of_squares_vjp)
rules.vjp("ReduceLogSum", log_of_sum_vjp)
for operator in ("Scatter", "ScatterElements", "ScatterND"):
    rules.vjp(
        operator,
        *(vjp and shared(vjp, slot) for slot, vjp in enumerate(DEFAULT[operator].functions)),
    )


# Products


def factor(r: Value, y: Value, a: Value, b: Value, slot: int) -> Value | None:
    """All of r to the factor beside a constant or a gate; half of it to each of two others."""
    if not is_image((b if slot == 0 else a).tensor):
        return r
    constant = constant_slot(y)
    if constant is not None:
        return None if constant == slot else r
    return r * 0.5


rules.vjp("Mul", lambda r, y, a, b: factor(r, y, a, b, 0), lambda r, y, a, b: factor(r, y, a, b, 1))
rules.vjp(
    "Div",
    lambda r, y, a, b: r,
    lambda r, y, a, b: None if is_image(a.tensor) else r,
)
rules.vjp("Pow", passed, lambda r, y, x, p: None if is_image(x.tensor) else r)
rules.vjp("PRelu", passed, lambda r, y, x, slope: None)


def extreme(operator: str) -> Vjp:
    """All of r beside a constant, as of a rectifier; else to the largest, or smallest, one."""
    (vjp,) = DEFAULT[operator].functions
    assert vjp is not None  # noqa: S101

    def extreme_vjp(r: Value, y: Value, *xs: Value, slot: int) -> Value:
        variables = [x for x in xs if is_image(x.tensor)]
        return r if len(variables) == 1 else vjp(r, y, *xs, slot=slot)

    return extreme_vjp


rules.variadic("Max", extreme("Max"))
rules.variadic("Min", extreme("Min"))
