"""Softmax, LogSoftmax and Sigmoid, also where they are written out in smaller operators.

The patterns are algebra: subtracting one number from all logits does not change their Softmax.
"""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from onnxcam.graph.operators import only_reshapes, traits_of
from onnxcam.graph.reachability import producer
from onnxcam.heads.monotone import (
    MAX_DEPTH,
    before_reshapes,
    constant_number,
    monotone_input,
    negated_input,
    reshapes_or_repeats,
)

SUMS = ("ReduceSum", "ReduceL1", "ReduceMean")  # of exponentials, which are positive


def match_activation(node: gs.Node, *, is_shifted: bool = False) -> tuple[gs.Tensor, str] | None:
    """The logits of an activation that ends at the node, and its operator: Softmax, LogSoftmax or Sigmoid.

    `is_shifted` says that a constant is added to the node's output.
    """
    if traits_of(node).output_activation:
        return node.inputs[0], node.op
    if node.op == "Tanh" and is_shifted:  # (1 + tanh z) / 2 is the Sigmoid of 2 z
        return node.inputs[0], "Sigmoid"
    for match in (_match_quotient, _match_reciprocal, _match_exponential, _match_log_softmax):
        if (logits_and_operator := match(node)) is not None:
            return logits_and_operator
    return None


def match_falling(node: gs.Node) -> gs.Tensor | None:
    """The logits of an activation that falls with its output: the x of 1 / (1 + exp(x)), whose opposite is the
    Sigmoid of x, and of softplus(-x), whose negative is the logarithm of that.
    """
    if node.op == "Softplus":
        return negated_input(node.inputs[0])
    return _exponent_below_one(node)


def without_shift(tensor: gs.Tensor) -> gs.Tensor:
    """The x of x - max(x), and of its multiples: otherwise the largest logit would have no gradient."""
    current = tensor
    for _ in range(MAX_DEPTH):
        node = producer(current)
        if node is None:
            return tensor
        if node.op == "Sub":
            reduction = producer(before_reshapes(node.inputs[1], reshapes_or_repeats))
            if reduction is None or not reduction.op.startswith("Reduce"):
                return tensor
            return node.inputs[0] if reduction.inputs[0] is node.inputs[0] else tensor
        is_scaling = node.op in ("Mul", "Div") or only_reshapes(traits_of(node))
        step = monotone_input(node) if is_scaling else None
        if step is None or step[1] < 0:
            return tensor
        current = step[0]
    return tensor


def _match_quotient(node: gs.Node) -> tuple[gs.Tensor, str] | None:
    """exp(x) / sum exp(x), or exp(x) / (1 + exp(x))."""
    quotient = _split_quotient(node)
    if quotient is None:
        return None
    dividend, divisor = quotient
    exponent = _exponent(dividend)
    if exponent is None:
        return None
    if divisor is None:
        return exponent, "Softmax"
    total, constants = _split_off_constants(divisor)
    if total is before_reshapes(dividend):
        return (exponent, "Sigmoid") if constants == [1.0] else None
    return (exponent, "Softmax") if _is_sum_of(total, before_reshapes(dividend)) else None


def _match_reciprocal(node: gs.Node) -> tuple[gs.Tensor, str] | None:
    """1 / (1 + exp(-x))."""
    exponent = _exponent_below_one(node)
    logits = None if exponent is None else negated_input(exponent)
    return None if logits is None else (logits, "Sigmoid")


def _exponent_below_one(node: gs.Node) -> gs.Tensor | None:
    """The x of 1 / (1 + exp(x))."""
    divisor = _inverted(node)
    if divisor is None:
        return None
    total, constants = _split_off_constants(divisor)
    return _exponent(total) if constants == [1.0] else None


def _inverted(node: gs.Node) -> gs.Tensor | None:
    """The x of 1 / x, perhaps times a positive number."""
    if node.op == "Reciprocal" or (node.op == "Pow" and constant_number(node.inputs[1]) == -1):
        return node.inputs[0]
    if node.op == "Div" and (constant_number(node.inputs[0]) or 0) > 0:
        return node.inputs[1]
    return None


def _match_exponential(node: gs.Node) -> tuple[gs.Tensor, str] | None:
    """exp(log softmax x)."""
    inner = producer(before_reshapes(node.inputs[0])) if node.op == "Exp" else None
    if inner is None:
        return None
    if inner.op == "LogSoftmax":
        return inner.inputs[0], "Softmax"
    log_softmax = _match_log_softmax(inner)
    return None if log_softmax is None else (log_softmax[0], "Softmax")


def _match_log_softmax(node: gs.Node) -> tuple[gs.Tensor, str] | None:
    """x - log sum exp(x)."""
    if node.op != "Sub":
        return None
    logits = without_shift(node.inputs[0])
    return (logits, "LogSoftmax") if _log_sum_exp_input(node.inputs[1]) is logits else None


def _log_sum_exp_input(tensor: gs.Tensor, depth: int = 2) -> gs.Tensor | None:
    """The x of log sum exp(x), also if its maximum is subtracted first and added again."""
    node = producer(before_reshapes(tensor, reshapes_or_repeats))
    if node is None:
        return None
    if node.op == "ReduceLogSumExp":
        return without_shift(node.inputs[0])
    if node.op == "Add":
        sums = (_log_sum_exp_input(operand, depth - 1) for operand in node.inputs if depth)
        return next(filter(None, sums), None)
    inner = producer(_split_off_constants(node.inputs[0])[0]) if node.op == "Log" else None
    if inner is None or inner.op not in (*SUMS, "ReduceSumExp"):
        return None
    exponent = _exponent(inner.inputs[0])
    return None if exponent is None else without_shift(exponent)


def _split_quotient(node: gs.Node) -> tuple[gs.Tensor, gs.Tensor | None] | None:
    """Dividend and divisor; the divisor is None if it is the sum of magnitudes."""
    if node.op == "Div":
        return node.inputs[0], node.inputs[1]
    if node.op == "LpNormalization" and node.attrs.get("p", 2) == 1:
        return node.inputs[0], None
    if node.op == "Mul":
        for dividend, factor in (node.inputs[:2], node.inputs[1::-1]):
            inverse = producer(before_reshapes(factor, reshapes_or_repeats))
            divisor = None if inverse is None else _inverted(inverse)
            if divisor is not None:
                return dividend, divisor
    return None


def _exponent(tensor: gs.Tensor) -> gs.Tensor | None:
    """The x of exp(x), 2 ** x, …"""
    node = producer(before_reshapes(tensor))
    if node is not None and node.op == "Exp":
        return node.inputs[0]
    if node is not None and node.op == "Pow" and (constant_number(node.inputs[0]) or 0) > 1:
        return node.inputs[1]
    return None


def _is_sum_of(total: gs.Tensor, terms: gs.Tensor) -> bool:
    node = producer(total)
    if node is None or node.op not in (*SUMS, "MatMul", "Einsum"):
        return False
    is_sum = len(node.inputs) == 1 or node.op in SUMS or _is_all_ones(node.inputs[1])
    return is_sum and before_reshapes(node.inputs[0]) is terms


def _split_off_constants(tensor: gs.Tensor) -> tuple[gs.Tensor, list[float]]:
    """A sum without the constants that are added to it (or clip it), and those that are added."""
    added: list[float] = []
    current = before_reshapes(tensor, reshapes_or_repeats)
    while (node := producer(current)) is not None and node.op in ("Add", "Sum", "Max", "Clip"):
        numbers = [constant_number(operand) for operand in node.inputs]
        constants = [number for number in numbers if number is not None]
        varying = [operand for operand in node.inputs if operand.inputs]
        if len(varying) != 1 or len(constants) != len(node.inputs) - 1:
            break
        added += constants if node.op in ("Add", "Sum") else []
        current = before_reshapes(varying[0], reshapes_or_repeats)
    return current, added


def _is_all_ones(tensor: gs.Tensor) -> bool:
    return isinstance(tensor, gs.Constant) and bool(np.all(np.asarray(tensor.values) == 1))
