"""Inputs that rules treat as weights: a derivative with respect to them exists, but no rule computes it.

They are usually constants. If they are computed from the same tensor as the other inputs (by a small network,
for each image), a gradient without their share would be wrong, so it is refused.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

import onnx_graphsurgeon as gs

from onnxcam.autodiff.rule_table import Rules
from onnxcam.graph.reachability import FlowPredicate, is_float, subgraph_between

WEIGHTS: dict[str, tuple[int, ...]] = {  # the slots of each operator
    "BatchNormalization": (1, 2, 3, 4),
    "Clip": (1, 2),
    "Conv": (1, 2),
    "ConvTranspose": (1, 2),
    "LSTM": (1, 2, 3, 7),
    "Pad": (2,),
}
REASON = (
    "has weights that are computed from the same input, and no rule for the gradient through these weights: "
    "choose a layer after it"
)


def readers_of_computed_weights(
    graph: gs.Graph, wrt: Collection[str], of: Collection[str], rules: Rules
) -> list[gs.Node]:
    """The nodes between `wrt` and `of` with a weight that depends on one of `wrt`, in the graph's order."""
    if not any(True for node in graph.nodes for _ in _computed_weights(node)):
        return []
    path = subgraph_between(graph, wrt, of, _carries_into_weights(rules))
    return [
        node
        for node in path.nodes
        if any(tensor in path.tensors for tensor in _computed_weights(node))
    ]


def _carries_into_weights(rules: Rules) -> FlowPredicate:
    def carries(node: gs.Node, slot: int) -> bool:
        rule = rules.rule_for(node)
        is_followed = rule is None or rule.function(slot) is not None
        return is_float(node.inputs[slot]) and (is_followed or slot in _weight_slots(node))

    return carries


def _computed_weights(node: gs.Node) -> Iterator[str]:
    """The names of the weights that are not constants."""
    for slot in _weight_slots(node):
        tensor = node.inputs[slot] if slot < len(node.inputs) else None
        if isinstance(tensor, gs.Variable) and not tensor.is_empty() and is_float(tensor):
            yield tensor.name


def _weight_slots(node: gs.Node) -> tuple[int, ...]:
    return WEIGHTS.get(node.op, ()) if node.domain in (None, "", "ai.onnx") else ()
