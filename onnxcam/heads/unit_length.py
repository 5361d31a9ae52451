"""Numbers that were divided by their norm, as in an embedding."""

from __future__ import annotations

import onnx_graphsurgeon as gs

from onnxcam.graph.reachability import producer
from onnxcam.heads.monotone import before_reshapes, constant_number, reshapes_or_repeats

ROOT = 0.5  # the exponent of a square root
BOUNDS = {"Clip", "Max", "Add", "Sum"}  # keep the norm away from 0


def before_normalization(tensor: gs.Tensor) -> gs.Tensor | None:
    """The tensor before its division by its Euclidean norm; None if it was not divided."""
    node = producer(before_reshapes(tensor))
    if node is None:
        return None
    if node.op == "LpNormalization":
        return node.inputs[0] if node.attrs.get("p", 2) == 2 else None
    if node.op == "Div":
        return _if_norm(node.inputs[0], node.inputs[1])
    if node.op != "Mul":
        return None
    for dividend, factor in (node.inputs[:2], node.inputs[1::-1]):
        divisor, exponent = _inverted(factor)
        if (source := _if_norm(dividend, divisor, exponent)) is not None:
            return source
    return None


def _inverted(tensor: gs.Tensor) -> tuple[gs.Tensor | None, float]:
    """The n of 1 / n, and the exponent that makes a norm of it; for x ** -0.5 that is the inverse itself."""
    node = producer(before_reshapes(tensor, reshapes_or_repeats))
    if node is not None and node.op == "Reciprocal":
        return node.inputs[0], ROOT
    if node is not None and node.op == "Div" and constant_number(node.inputs[0]) == 1:
        return node.inputs[1], ROOT
    return (None if node is None or node.op != "Pow" else tensor), -ROOT


def _if_norm(
    dividend: gs.Tensor, divisor: gs.Tensor | None, exponent: float = ROOT
) -> gs.Tensor | None:
    """The dividend, if the divisor is its norm: the root of the sum of its squares, bounded or not."""
    node = None if divisor is None else _before_bounds(divisor)
    if node is None:
        return None
    source = before_reshapes(dividend)
    if node.op == "ReduceL2":
        return dividend if before_reshapes(node.inputs[0]) is source else None
    is_power = node.op == "Pow" and constant_number(node.inputs[1]) == exponent
    total = _before_bounds(node.inputs[0]) if node.op == "Sqrt" or is_power else None
    if total is None or not total.op.startswith("ReduceSum"):
        return None
    squares = _squared(total)
    return dividend if squares is not None and before_reshapes(squares) is source else None


def _before_bounds(tensor: gs.Tensor) -> gs.Node | None:
    """The node before constants that are added or bound its numbers, and before copies."""
    node = producer(before_reshapes(tensor, reshapes_or_repeats))
    while node is not None and node.op in BOUNDS:
        varying = [operand for operand in node.inputs if operand.inputs]
        if len(varying) != 1:
            return None
        node = producer(before_reshapes(varying[0], reshapes_or_repeats))
    return node


def _squared(total: gs.Node) -> gs.Tensor | None:
    """The x of a sum of x ** 2."""
    if total.op == "ReduceSumSquare":
        return total.inputs[0]
    node = producer(before_reshapes(total.inputs[0]))
    if node is None:
        return None
    is_product = node.op == "Mul" and node.inputs[0] is node.inputs[1]
    is_power = node.op == "Pow" and constant_number(node.inputs[1]) == 2
    return node.inputs[0] if is_product or is_power else None
