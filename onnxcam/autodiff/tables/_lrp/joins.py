"""Operators that join tensors: what comes from constants (class tokens, masks) is absorbed there."""

from __future__ import annotations

from typing import Any

from onnxcam.autodiff.rule_table import Absorb, Rules, Vjp
from onnxcam.autodiff.rules import DEFAULT
from onnxcam.autodiff.tables._lrp.constants import is_image
from onnxcam.graph.tracing import Value

rules = Rules()


def vjp_of(operator: str, slot: int = 0) -> Vjp:
    """The gradient of an operator by one input."""
    vjp = DEFAULT[operator].functions[slot]
    assert vjp is not None  # noqa: S101
    return vjp


def concat_vjp(
    r: Value, y: Value, *xs: Value, axis: int | None, slot: int, absorb: Absorb
) -> Value:
    """The part of r; the first tensor of the image absorbs those of all constants."""
    images = [number for number, x in enumerate(xs) if is_image(x.tensor)]
    vjp: Any = vjp_of("Concat")
    if slot == images[0]:
        for number in range(len(xs)):
            if number not in images:
                absorb(vjp(r, y, *xs, axis=axis, slot=number))
    part: Value = vjp(r, y, *xs, axis=axis, slot=slot)
    return part


def where_vjp(r: Value, y: Value, c: Value, a: Value, b: Value, slot: int, absorb: Absorb) -> Value:
    """r where the operand is chosen; where a constant is, it absorbs r."""
    if not is_image((b if slot == 1 else a).tensor):
        absorb(vjp_of("Where", 3 - slot)(r, y, c, a, b))
    chosen: Value = vjp_of("Where", slot)(r, y, c, a, b)
    return chosen


rules.variadic("Concat", concat_vjp)
rules.vjp(
    "Where",
    None,
    lambda r, y, c, a, b, *, absorb: where_vjp(r, y, c, a, b, 1, absorb),
    lambda r, y, c, a, b, *, absorb: where_vjp(r, y, c, a, b, 2, absorb),
)
