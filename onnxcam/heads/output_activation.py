"""The last Softmax or Sigmoid before a score, also where it is written out in smaller operators.

After it, gradients vanish if the model is confident. The patterns are algebra: rescaling, shifting, or clipping
a probability keeps the order of the classes, and subtracting one number from all logits does not change their
Softmax.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs

from onnxcam.graph.operators import only_reshapes, traits_of
from onnxcam.graph.reachability import producer
from onnxcam.graph.traits import Traits

DEEPEST = 16  # operators that are followed back from an output


@dataclass(frozen=True)
class Squashed:
    """`probabilities` are made of `logits` by `operator`: Softmax, LogSoftmax or Sigmoid."""

    logits: gs.Tensor
    probabilities: gs.Tensor
    operator: str


def unsquashed(tensor: gs.Tensor) -> Squashed | None:
    """The last squashing before a tensor, if what follows keeps the order of the classes; else None."""
    current, sign, exact, shifted = tensor, 1, True, False
    for _ in range(DEEPEST):
        node = producer(current)
        if node is None:
            return None
        if (squashed := _squashing(node, sign, shifted=shifted)) is not None:
            probabilities = tensor if exact else squashed.probabilities
            return Squashed(squashed.logits, probabilities, squashed.operator)
        step = _rising(node)
        if step is None:
            return None
        current, sign = step[0], sign * step[1]
        exact = exact and _keeps_probabilities(node)
        shifted = shifted or node.op in ("Add", "Sub")
    return None


def mixed_logits(tensor: gs.Tensor) -> list[str]:
    """The logits of the probabilities that a tensor is a mean, a product, or a similar mixture of; empty if it
    is none.
    """
    return _within(tensor, DEEPEST, {})


def _within(tensor: gs.Tensor, depth: int, known: dict[tuple[str, int], list[str]]) -> list[str]:
    """The same, at most `depth` operators back; `known` caches results, since many paths may meet."""
    key = (tensor.name, depth)
    if key not in known:
        node = producer(tensor)
        known[key] = [] if node is None or not depth else _within_node(node, depth - 1, known)
    return known[key]


def _within_node(node: gs.Node, depth: int, known: dict[tuple[str, int], list[str]]) -> list[str]:
    if (squashed := _squashing(node, 1)) is not None:
        return [squashed.logits.name]
    if node.op == "HardSigmoid" or (node.op == "Clip" and _is_unit(node)):
        return [node.inputs[0].name]
    if node.op == "Div" or _keeps_probabilities(node):
        return _within(node.inputs[0], depth, known)
    if not _blends(node):
        return []
    logits: dict[str, None] = {}
    operands = node.inputs[1:] if node.op == "Where" else node.inputs
    for tensor in {operand.name: operand for operand in operands}.values():
        if isinstance(tensor, gs.Constant) or tensor.is_empty():
            continue
        part = _within(tensor, depth, known)
        if not part:
            return []
        logits.update(dict.fromkeys(part))
    return list(logits)


def _squashing(node: gs.Node, sign: int, *, shifted: bool = False) -> Squashed | None:
    """What a node squashes, if the score rises with it."""
    output = node.outputs[0]
    if traits_of(node).output_activation:
        logits, operator = node.inputs[0], node.op
    elif node.op == "Tanh" and shifted:  # (1 + tanh z) / 2 is the Sigmoid of 2 z
        logits, operator = node.inputs[0], "Sigmoid"
    else:
        for read in (_of_exponentials, _of_one_over, _of_logarithm, _less_logarithm):
            if (pair := read(node)) is not None:
                logits, operator = pair
                break
        else:
            return None
    if operator == "Sigmoid" and sign < 0:
        negative = _negated(logits)
        return None if negative is None else Squashed(negative, output, operator)
    if operator != "Sigmoid":
        logits = _unshifted(logits)
    return Squashed(logits, output, operator) if sign > 0 else None


def _of_exponentials(node: gs.Node) -> tuple[gs.Tensor, str] | None:
    """exp(x) / sum exp(x), or exp(x) / (1 + exp(x))."""
    pair = _quotient(node)
    if pair is None:
        return None
    above, below = pair
    power = _exponent(above)
    if power is None:
        return None
    if below is None:
        return power, "Softmax"
    total, ones = _without_constants(below)
    if total is _before_reshape(above):
        return (power, "Sigmoid") if ones == [1.0] else None
    return (power, "Softmax") if _is_sum_of(total, _before_reshape(above)) else None


def _is_sum_of(total: gs.Tensor, terms: gs.Tensor) -> bool:
    node = producer(total)
    if node is None or node.op not in ("ReduceSum", "ReduceL1", "MatMul"):
        return False
    ones = node.op != "MatMul" or _is_of_ones(node.inputs[1])
    return ones and _before_reshape(node.inputs[0]) is terms


def _of_one_over(node: gs.Node) -> tuple[gs.Tensor, str] | None:
    """1 / (1 + exp(-x))."""
    if node.op == "Reciprocal" or (node.op == "Pow" and _number(node.inputs[1]) == -1):
        below = node.inputs[0]
    elif node.op == "Div" and (_number(node.inputs[0]) or 0) > 0:
        below = node.inputs[1]
    else:
        return None
    total, ones = _without_constants(below)
    power = _exponent(total)
    logits = _negated(power) if power is not None and ones == [1.0] else None
    return None if logits is None else (logits, "Sigmoid")


def _of_logarithm(node: gs.Node) -> tuple[gs.Tensor, str] | None:
    """exp(log softmax x)."""
    inner = producer(_before_reshape(node.inputs[0])) if node.op == "Exp" else None
    if inner is None:
        return None
    if inner.op == "LogSoftmax":
        return inner.inputs[0], "Softmax"
    pair = _less_logarithm(inner)
    return None if pair is None else (pair[0], "Softmax")


def _less_logarithm(node: gs.Node) -> tuple[gs.Tensor, str] | None:
    """x - log sum exp(x)."""
    if node.op != "Sub":
        return None
    logits = _unshifted(node.inputs[0])
    summed = _summed_exponents(node.inputs[1])
    return (logits, "LogSoftmax") if summed is logits else None


def _summed_exponents(tensor: gs.Tensor, depth: int = 2) -> gs.Tensor | None:
    """The x of log sum exp(x), also if its maximum is subtracted first and added again."""
    node = producer(_before_reshape(tensor, _reshapes_or_repeats))
    if node is None:
        return None
    if node.op == "ReduceLogSumExp":
        return _unshifted(node.inputs[0])
    if node.op == "Add":
        sums = (_summed_exponents(each, depth - 1) for each in node.inputs if depth)
        return next(filter(None, sums), None)
    inner = producer(_without_constants(node.inputs[0])[0]) if node.op == "Log" else None
    if inner is None or inner.op not in ("ReduceSum", "ReduceSumExp", "ReduceL1"):
        return None
    power = _exponent(inner.inputs[0])
    return None if power is None else _unshifted(power)


def _quotient(node: gs.Node) -> tuple[gs.Tensor, gs.Tensor | None] | None:
    """Dividend and divisor; None for a divisor that is the sum of magnitudes."""
    if node.op == "Div":
        return node.inputs[0], node.inputs[1]
    if node.op == "LpNormalization" and node.attrs.get("p", 2) == 1:
        return node.inputs[0], None
    for above, below in (node.inputs[:2], node.inputs[1::-1]) if node.op == "Mul" else ():
        inverse = producer(_before_reshape(below, _reshapes_or_repeats))
        if inverse is not None and inverse.op == "Reciprocal":
            return above, inverse.inputs[0]
    return None


def _exponent(tensor: gs.Tensor) -> gs.Tensor | None:
    """The x of exp(x), 2 ** x, …"""
    node = producer(_before_reshape(tensor))
    if node is not None and node.op == "Exp":
        return node.inputs[0]
    if node is not None and node.op == "Pow" and (_number(node.inputs[0]) or 0) > 1:
        return node.inputs[1]
    return None


def _unshifted(tensor: gs.Tensor) -> gs.Tensor:
    """x of x - max(x), and of its multiples: else the greatest logit would have no gradient."""
    current = tensor
    for _ in range(DEEPEST):
        node = producer(current)
        if node is None:
            return tensor
        if node.op == "Sub":
            reduced = producer(_before_reshape(node.inputs[1], _reshapes_or_repeats))
            if reduced is None or not reduced.op.startswith("Reduce"):
                return tensor
            return node.inputs[0] if reduced.inputs[0] is node.inputs[0] else tensor
        followed = node.op in ("Mul", "Div") or only_reshapes(traits_of(node))
        step = _rising(node) if followed else None
        if step is None or step[1] < 0:
            return tensor
        current = step[0]
    return tensor


def _negated(tensor: gs.Tensor) -> gs.Tensor | None:
    """x of -x, of -2 x, of 1 - x."""
    node = producer(_before_reshape(tensor))
    step = None if node is None else _rising(node)
    return step[0] if step is not None and step[1] < 0 else None


def _rising(node: gs.Node) -> tuple[gs.Tensor, int] | None:
    """The input that a node rises with (1) or falls with (-1), the same for all classes; None for others."""
    first, *rest = node.inputs
    numbers = [_number(tensor) for tensor in node.inputs]
    if node.op == "Neg":
        return first, -1
    if node.op in ("Add", "Sub", "Mul", "Div", "Max", "Min", "Pow") and len(rest) == 1:
        return _rising_with(node, numbers)
    constant = all(tensor.is_empty() or not tensor.inputs for tensor in rest)
    rising = traits_of(node).increasing or _keeps_probabilities(node)
    return (first, 1) if rising and constant and first.inputs else None


def _rising_with(node: gs.Node, numbers: list[float | None]) -> tuple[gs.Tensor, int] | None:
    """The same of an operator with two operands, one of them a number."""
    at = next((slot for slot, number in enumerate(numbers) if number is not None), None)
    if at is None:
        return None
    number, other = numbers[at] or 0.0, node.inputs[1 - at]
    if node.op in ("Mul", "Div", "Pow"):
        if not number or (at == 0 and node.op != "Mul"):
            return None
        if node.op == "Pow" and number % 2 == 0 and not _is_positive(other):
            return None
        return other, 1 if number > 0 else -1
    return other, -1 if node.op == "Sub" and at == 0 else 1


def _is_positive(tensor: gs.Tensor) -> bool:
    """Whether no number is below 0, so that even powers increase, too."""
    node = producer(_before_reshape(tensor))
    bounds = None if node is None else traits_of(node).output_range
    return bounds is not None and bounds[0] >= 0


def _without_constants(tensor: gs.Tensor) -> tuple[gs.Tensor, list[float]]:
    """A sum without the constants that are added to it (or clip it), and the added ones."""
    numbers: list[float] = []
    current = _before_reshape(tensor, _reshapes_or_repeats)
    while (node := producer(current)) is not None and node.op in ("Add", "Max", "Clip"):
        constants = [number for operand in node.inputs if (number := _number(operand)) is not None]
        varying = [operand for operand in node.inputs if operand.inputs]
        if len(varying) != 1 or len(constants) != len(node.inputs) - 1:
            break
        numbers += constants if node.op == "Add" else []
        current = _before_reshape(varying[0], _reshapes_or_repeats)
    return current, numbers


def _keeps_probabilities(node: gs.Node) -> bool:
    """Whether a probability stays one, if perhaps rounded or clipped, and moved to another axis."""
    traits = traits_of(node)
    moved = only_reshapes(traits) or traits.moves == "transpose"
    return moved or traits.quantizes or node.op == "Clip"


def _blends(node: gs.Node) -> bool:
    """Whether numbers between 0 and 1 stay there or are only rescaled."""
    traits = traits_of(node)
    return traits.blends or traits.moves in ("join", "transpose", "slice", "gather")


def _reshapes_or_repeats(traits: Traits) -> bool:
    """Whether a number that is the same for all classes is only laid out for them."""
    return only_reshapes(traits) or traits.moves == "repeat"


def _before_reshape(
    tensor: gs.Tensor, passing: Callable[[Traits], bool] = only_reshapes
) -> gs.Tensor:
    """The tensor before operators that only change its shape or type."""
    return list(_chain_back(tensor, passing))[-1]


def _chain_back(tensor: gs.Tensor, passing: Callable[[Traits], bool]) -> Iterator[gs.Tensor]:
    yield tensor
    while (node := producer(tensor)) is not None and passing(traits_of(node)):
        tensor = node.inputs[0]
        yield tensor


def _number(tensor: gs.Tensor) -> float | None:
    """The value of a constant that is one number."""
    if not isinstance(tensor, gs.Constant) or tensor.values.size != 1:
        return None
    return float(np.ravel(tensor.values)[0])


def _is_of_ones(tensor: gs.Tensor) -> bool:
    return isinstance(tensor, gs.Constant) and bool(np.all(np.asarray(tensor.values) == 1))


def _is_unit(node: gs.Node) -> bool:
    """Whether a Clip clips to values between 0 and 1."""
    bounds = [node.attrs.get("min"), node.attrs.get("max")]
    bounds = [
        own if slot >= len(node.inputs) else _number(node.inputs[slot])
        for slot, own in enumerate(bounds, 1)
    ]
    return None not in bounds and bounds[0] >= 0 and bounds[1] <= 1
