"""Functions of two tensors: products by the midpoint rule, others by their average over the two orders.

y - y' = (a - a') (b + b') / 2 + (b - b') (a + a') / 2 is exact for every product. For another function f,
a gets (f(a, b) - f(a', b) + f(a, b') - f(a', b')) / 2, its Shapley value, and so does b; of a product, that is
the midpoint rule.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import accumulate
from typing import Any, TypeAlias

import numpy as np

from onnxcam.autodiff.lowering.standardization import to_float32
from onnxcam.autodiff.rule_table import Reference, Rules, Vjp
from onnxcam.autodiff.rules import DEFAULT
from onnxcam.autodiff.tables._deep_lift.secant import compared, midpoint, quotient, secant
from onnxcam.graph import anp
from onnxcam.graph.tracing import Value

Function: TypeAlias = Callable[[Value, Value], Value]
Divide: TypeAlias = Callable[[Value, Value, Value, Value], Value]

rules = Rules()


def at_midpoint(vjp: Vjp) -> Vjp:
    """The rule of a function that is linear in each of its inputs, with the inputs halfway to the reference."""

    @compared(vjp)
    def midpoint_vjp(
        g: Value, y: Value, *xs: Value | None, reference: Reference, **settings: Any
    ) -> Value:
        halfway = [None if x is None else midpoint(x, reference) for x in xs]
        return vjp(g, y, *halfway, **settings)

    return midpoint_vjp


for operator in ("Mul", "MatMul", "Gemm"):
    rules.vjp(operator, *(at_midpoint(vjp) for vjp in DEFAULT[operator].functions if vjp))
rules.variadic("Einsum", at_midpoint(*(vjp for vjp in DEFAULT["Einsum"].functions if vjp)))


# Other functions of two operands


def share(
    g: Value,
    function: Function,
    pair: tuple[Value, Value],
    pair0: tuple[Value, Value],
    tangent: Value,
    divide: Divide = secant,
) -> Value:
    """The cotangent of the first of two operands, given both and both references."""
    (a, b), (a0, b0) = pair, pair0
    rise = to_float32(function(a, b)) - to_float32(function(a0, b))
    if b0.tensor is not b.tensor:
        rise = (rise + to_float32(function(a, b0)) - to_float32(function(a0, b0))) * 0.5
    return divide(to_float32(g) * rise, a, a0, tangent)


def shared(operator: str, slot: int) -> Vjp:
    """The rule of one operand of an operator with two."""
    vjp = DEFAULT[operator].functions[slot]
    assert vjp is not None  # noqa: S101  both have one

    @compared(vjp)
    def shared_vjp(g: Value, y: Value, a: Value, b: Value, *, reference: Reference) -> Value:
        def function(own: Value, other: Value) -> Value:
            return g.build.op(operator, *((own, other) if slot == 0 else (other, own)))

        pair = (a, b) if slot == 0 else (b, a)
        pair0 = reference(pair[0]), reference(pair[1])
        return share(g, function, pair, pair0, vjp(g, y, a, b))

    return shared_vjp


for operator in ("Div", "PRelu"):
    rules.vjp(operator, shared(operator, 0), shared(operator, 1))

_power = shared("Pow", 0)


def power_vjp_base(g: Value, y: Value, x: Value, p: Value, *, reference: Reference) -> Value:
    """x^p; of a square, x + x'."""
    if p.constant is not None and np.all(p.constant == 2):
        return g * (x + reference(x))
    return _power(g, y, x, p, reference=reference)


rules.vjp("Pow", power_vjp_base, shared("Pow", 1))


def choice(operator: str, write: Function) -> None:
    """Add the rule of Max or Min: of several operands, one after the other."""
    (vjp,) = DEFAULT[operator].functions
    assert vjp is not None  # noqa: S101

    @compared(vjp)
    def choice_vjp(g: Value, y: Value, *xs: Value, slot: int, reference: Reference) -> Value:
        x0s = [reference(x) for x in xs]
        before, before0 = (list(accumulate(operands, write)) for operands in (xs, x0s))
        for i in range(len(xs) - 1, max(slot, 1) - 1, -1):
            pair, pair0 = (before[i - 1], xs[i]), (before0[i - 1], x0s[i])
            if i == slot:
                pair, pair0 = pair[::-1], pair0[::-1]
            tangent = vjp(g, before[i], *pair, slot=0)
            g = share(g, write, pair, pair0, tangent, quotient)
        return g

    rules.variadic(operator, choice_vjp)


choice("Max", anp.maximum)
choice("Min", anp.minimum)


def where_vjp(g: Value, c: Value, slot: int, reference: Reference) -> Value:
    """The cotangent where the condition holds (slot 1) or not; half of it where it holds on one image only."""
    ones = [value.astype(g.dtype) for value in (c, reference(c))]
    held = ones[0] if reference(c).tensor is c.tensor else (ones[0] + ones[1]) * 0.5
    return g * held if slot == 1 else g * (1.0 - held)


rules.vjp(
    "Where",
    None,
    lambda g, y, c, a, b, *, reference: where_vjp(g, c, 1, reference),
    lambda g, y, c, a, b, *, reference: where_vjp(g, c, 2, reference),
)
