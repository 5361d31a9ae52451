"""The last Softmax or Sigmoid before a score: after it, gradients vanish if the model is confident.

Rescaling, shifting, or clipping a probability keeps the order of the classes, so it may follow the activation.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx_graphsurgeon as gs

from onnxcam.graph.reachability import producer
from onnxcam.heads.activation_patterns import match_activation, match_falling, without_shift
from onnxcam.heads.monotone import MAX_DEPTH, keeps_probabilities, monotone_input, negated_input


@dataclass(frozen=True)
class OutputActivation:
    """`operator` (Softmax, LogSoftmax or Sigmoid) turns `logits` into `probabilities`."""

    logits: gs.Tensor
    probabilities: gs.Tensor
    operator: str


def find_output_activation(tensor: gs.Tensor) -> OutputActivation | None:
    """The last activation before a tensor, if what follows keeps the order of the classes; otherwise None."""
    current, sign, is_exact, is_shifted = tensor, 1, True, False
    for _ in range(MAX_DEPTH):
        node = producer(current)
        if node is None:
            return None
        if (activation := activation_at(node, sign, is_shifted=is_shifted)) is not None:
            is_kept = is_exact or sign < 0  # then the activation has the other side's probability
            probabilities = tensor if is_kept else activation.probabilities
            return OutputActivation(activation.logits, probabilities, activation.operator)
        step = monotone_input(node)
        if step is None:
            return None
        current, sign = step[0], sign * step[1]
        is_exact = is_exact and keeps_probabilities(node)
        is_shifted = is_shifted or node.op in ("Add", "Sub")
    return None


def activation_at(node: gs.Node, sign: int, *, is_shifted: bool = False) -> OutputActivation | None:
    """The activation that ends at a node, if the score increases with its logits.

    `sign` says whether the score increases (1) or decreases (-1) with the node's output, and `is_shifted` that
    a constant is added to it.
    """
    match = match_activation(node, is_shifted=is_shifted)
    if match is None:
        falling = match_falling(node) if sign < 0 else None
        return None if falling is None else OutputActivation(falling, node.outputs[0], "Sigmoid")
    logits, operator = match
    if operator != "Sigmoid":
        logits = without_shift(logits)
        return OutputActivation(logits, node.outputs[0], operator) if sign > 0 else None
    negative = negated_input(logits) if sign < 0 else logits  # 1 - sigmoid(-x) is the Sigmoid of x
    return None if negative is None else OutputActivation(negative, node.outputs[0], operator)
