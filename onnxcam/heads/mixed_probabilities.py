"""Scores that are a mean, a product, or another mixture of probabilities, such as those of an ensemble."""

from __future__ import annotations

import onnx_graphsurgeon as gs

from onnxcam.graph.operators import traits_of
from onnxcam.graph.reachability import producer
from onnxcam.heads.monotone import MAX_DEPTH, constant_number, keeps_probabilities
from onnxcam.heads.output_activation import activation_at


def mixed_logits(tensor: gs.Tensor) -> list[str]:
    """The logits of the probabilities that a tensor is a mixture of; empty if it is none."""
    return _find_mixed_logits(tensor, MAX_DEPTH, {})


def _find_mixed_logits(
    tensor: gs.Tensor, depth: int, cache: dict[tuple[str, int], list[str]]
) -> list[str]:
    """The same, at most `depth` operators back. `cache` holds results, since many paths may meet."""
    key = (tensor.name, depth)
    if key not in cache:
        node = producer(tensor)
        cache[key] = (
            [] if node is None or not depth else _mixed_logits_of_node(node, depth - 1, cache)
        )
    return cache[key]


def _mixed_logits_of_node(
    node: gs.Node, depth: int, cache: dict[tuple[str, int], list[str]]
) -> list[str]:
    if (activation := activation_at(node, 1)) is not None:
        return [activation.logits.name]
    if node.op == "HardSigmoid" or (node.op == "Clip" and _clips_to_unit_interval(node)):
        return [node.inputs[0].name]
    if node.op == "Div" or keeps_probabilities(node):
        return _find_mixed_logits(node.inputs[0], depth, cache)
    if not _is_mixture(node):
        return []
    logits: dict[str, None] = {}
    operands = node.inputs[1:] if node.op == "Where" else node.inputs
    for tensor in {operand.name: operand for operand in operands}.values():
        if isinstance(tensor, gs.Constant) or tensor.is_empty():
            continue
        names = _find_mixed_logits(tensor, depth, cache)
        if not names:
            return []
        logits.update(dict.fromkeys(names))
    return list(logits)


def _is_mixture(node: gs.Node) -> bool:
    """Whether numbers between 0 and 1 stay there or are only rescaled."""
    traits = traits_of(node)
    return traits.blends or traits.moves in ("join", "transpose", "slice", "gather")


def _clips_to_unit_interval(node: gs.Node) -> bool:
    bounds = [node.attrs.get("min"), node.attrs.get("max")]
    bounds = [
        attribute if slot >= len(node.inputs) else constant_number(node.inputs[slot])
        for slot, attribute in enumerate(bounds, 1)
    ]
    return None not in bounds and bounds[0] >= 0 and bounds[1] <= 1
