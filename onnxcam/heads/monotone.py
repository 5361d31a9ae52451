"""Steps back through operators that keep or reverse the order of the classes, and constants next to them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_graphsurgeon as gs

from onnxcam.graph.operators import only_reshapes, traits_of
from onnxcam.graph.reachability import producer
from onnxcam.graph.traits import Traits

MAX_DEPTH = 16  # operators that are followed back from an output


def monotone_input(node: gs.Node) -> tuple[gs.Tensor, int] | None:
    """The input with which the output increases (1) or decreases (-1), the same for all classes; None for other
    nodes.
    """
    if not node.inputs:  # of random numbers
        return None
    first, *rest = node.inputs
    numbers = [constant_number(tensor) for tensor in node.inputs]
    if node.op == "Neg":
        return first, -1
    if node.op == "Where":
        return _guarded_operand(node, numbers)
    if node.op in ("Add", "Sub", "Mul", "Div", "Max", "Min", "Pow") and len(rest) == 1:
        return _monotone_operand(node, numbers)
    is_constant = all(tensor.is_empty() or not tensor.inputs for tensor in rest)
    is_constant = is_constant or only_reshapes(traits_of(node))  # to a shape that may be computed
    is_increasing = traits_of(node).increasing or keeps_probabilities(node)
    return (first, 1) if is_increasing and is_constant and first.inputs else None


def _monotone_operand(node: gs.Node, numbers: list[float | None]) -> tuple[gs.Tensor, int] | None:
    """The same for an operator with two operands, one of them a number."""
    slot = next((slot for slot, number in enumerate(numbers) if number is not None), None)
    if slot is None:
        return None
    number, operand = numbers[slot] or 0.0, node.inputs[1 - slot]
    if node.op in ("Mul", "Div", "Pow"):
        if not number or (slot == 0 and node.op != "Mul"):
            return None
        if node.op == "Pow" and number % 2 == 0 and not _is_positive(operand):
            return None
        return operand, 1 if number > 0 else -1
    return operand, -1 if node.op == "Sub" and slot == 0 else 1


def _guarded_operand(node: gs.Node, numbers: list[float | None]) -> tuple[gs.Tensor, int] | None:
    """The x of a Where that replaces numbers of x that are not finite by a constant."""
    condition = producer(node.inputs[0])
    negated = condition is not None and condition.op == "Not"
    test = producer(condition.inputs[0]) if negated and condition else condition
    passed = node.inputs[1 if negated else 2]
    replaced = numbers[2 if negated else 1]
    is_guard = test is not None and test.op in ("IsNaN", "IsInf") and replaced is not None
    return (passed, 1) if is_guard else None


def _is_positive(tensor: gs.Tensor) -> bool:
    """Whether no number is below 0, so that even powers increase, too."""
    node = producer(before_reshapes(tensor))
    bounds = None if node is None else traits_of(node).output_range
    return bounds is not None and bounds[0] >= 0


def negated_input(tensor: gs.Tensor) -> gs.Tensor | None:
    """The x of -x, of -2 x, of 1 - x."""
    node = producer(before_reshapes(tensor))
    step = None if node is None else monotone_input(node)
    return step[0] if step is not None and step[1] < 0 else None


def keeps_probabilities(node: gs.Node) -> bool:
    """Whether probabilities stay probabilities: at most rounded, clipped, or moved to another axis."""
    traits = traits_of(node)
    only_moves = only_reshapes(traits) or traits.moves == "transpose"
    return only_moves or traits.quantizes or node.op == "Clip"


def reshapes_or_repeats(traits: Traits) -> bool:
    """Whether a number that is the same for all classes is only repeated for them."""
    return only_reshapes(traits) or traits.moves == "repeat"


def before_reshapes(
    tensor: gs.Tensor, passes: Callable[[Traits], bool] = only_reshapes
) -> gs.Tensor:
    """The tensor before operators that only change its shape or type, or that `passes` accepts."""
    while (node := producer(tensor)) is not None and passes(traits_of(node)):
        tensor = node.inputs[0]
    return tensor


def constant_number(tensor: gs.Tensor) -> float | None:
    """The value of a constant that is one number."""
    if not isinstance(tensor, gs.Constant) or tensor.values.size != 1:
        return None
    return float(np.ravel(tensor.values)[0])
