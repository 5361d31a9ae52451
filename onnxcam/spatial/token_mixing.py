"""Which tensors hold cells that the score ignores, because only other tokens are read after the last mixing.

A vision transformer reads its class token from the output of the last block. There, the gradient at all other
tokens is zero: they influence the score through the last attention only. For a block

    t -> LayerNormalization -> attention -> Add -> MLP -> Add -> last -> Gather(class token) -> score

the cells of `last` and of the MLP are ignored, and the last tensor through which all evidence of the cells
passes is the input of the attention.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import onnx_graphsurgeon as gs

from onnxcam.graph.operators import traits_of
from onnxcam.graph.reachability import Subgraph
from onnxcam.spatial.axes import Axes, holds_cells
from onnxcam.spatial.axis_flow import AxisFlow
from onnxcam.spatial.axis_rules import einsum_labels, reduced_axes

FOLLOWED_MOVES = {"view", "transpose", "repeat", "slice", "gather", "join"}


def mixes_positions(flow: AxisFlow, node: gs.Node, slot: int) -> bool:
    """Whether a number of the output is computed from several positions of that input."""
    axes, traits = flow.axes_of(node.inputs[slot]), traits_of(node)
    if axes is None or traits.elementwise or traits.moves in FOLLOWED_MOVES:
        return False
    if node.op == "Einsum":
        return _sums_over_cells(node, slot, axes)
    if traits.reduces:
        reduced = reduced_axes(node, flow.opset)
        return reduced is None or any(holds_cells(axes[i]) for i in reduced)
    if node.op in ("MatMul", "FusedMatMul"):
        return holds_cells(axes[-1 if slot == 0 else max(-2, -len(axes))])
    if node.op == "Gemm":
        return any(map(holds_cells, axes[1:]))
    axis = node.attrs.get("axis", -1)
    if traits.normalizes == "axis":
        return holds_cells(axes[int(axis)])
    if traits.normalizes == "trailing":
        return slot == 0 and any(map(holds_cells, axes[int(axis) :]))
    return True


def _sums_over_cells(node: gs.Node, slot: int, axes: Axes) -> bool:
    """Whether an Einsum sums over an axis of that input that holds cells."""
    terms = einsum_labels(node)
    if terms is None:
        return True
    operands, result = terms
    labeled = zip(operands[slot], axes, strict=True)
    return any(holds_cells(axis) for label, axis in labeled if label not in result)


def tensors_ignored_by_score(path: Subgraph, flow: AxisFlow, score: str) -> set[str]:
    """The tensors on the path whose cells the score ignores: it reads at most the other tokens in them."""
    is_read = {score: True}
    for node in reversed(path.nodes):
        for slot, tensor in enumerate(node.inputs):
            if tensor.name in path.tensors and not is_read.get(tensor.name):
                is_read[tensor.name] = _passes_cells_on(path, flow, is_read, node, slot)
    return {name for name, read in is_read.items() if not read}


def _passes_cells_on(
    path: Subgraph, flow: AxisFlow, is_read: Mapping[str, bool], node: gs.Node, slot: int
) -> bool:
    """Whether the cells of an input influence the score through this node."""
    axes = flow.axes_of(node.inputs[slot])
    if axes is None or not any(map(holds_cells, axes)) or mixes_positions(flow, node, slot):
        return True
    outputs = [
        (tensor.name, flow.axes_of(tensor))
        for tensor in node.outputs
        if tensor.name in path.tensors
    ]
    return any(
        output_axes is None or (any(map(holds_cells, output_axes)) and is_read.get(name, False))
        for name, output_axes in outputs
    )


@dataclass(frozen=True)
class PrunedNode:
    """A node with only those of its inputs that influence the score."""

    inputs: list[gs.Tensor]
    outputs: list[gs.Tensor]


def prune_ignored(path: Subgraph, flow: AxisFlow, ignored: set[str]) -> Subgraph:
    """The path without the connections through which cells only reach tensors where the score ignores them."""
    is_read = {name: name not in ignored for name in path.tensors}

    def carries(node: gs.Node, slot: int) -> bool:
        name = node.inputs[slot].name
        return name in ignored or _passes_cells_on(path, flow, is_read, node, slot)

    written = {tensor.name for node in path.nodes for tensor in node.outputs}
    reached, nodes = path.tensors - written, []
    for node in path.nodes:
        inputs = [
            tensor
            for slot, tensor in enumerate(node.inputs)
            if tensor.name in reached and carries(node, slot)
        ]
        if inputs:
            reached |= {tensor.name for tensor in node.outputs} & path.tensors
            nodes.append(PrunedNode(inputs, node.outputs))
    return Subgraph(nodes, reached)
