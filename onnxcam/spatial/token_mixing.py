"""Which cells the score still reads: behind the last mixing of tokens a classifier may read one of them only.

A vision transformer's class token is picked out of the last block's output. There all other tokens have a
gradient of zero; their last word was the attention before. So ways that lead into tokens nobody reads are
taken off the path, and what then lies on all ways is what all evidence of the cells passes through.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx_graphsurgeon as gs

from onnxcam.graph.operators import traits_of
from onnxcam.graph.reachability import Subgraph
from onnxcam.spatial.axes import Axes, holds_cells
from onnxcam.spatial.axis_flow import AxisFlow, einsum_labels

IN_ORDER = {"view", "transpose", "repeat", "slice", "gather", "join"}  # moves that AxisFlow follows


def mixes_positions(flow: AxisFlow, node: gs.Node, slot: int) -> bool:
    """Whether the operator brings places of that input together."""
    axes, traits = flow.axes_of(node.inputs[slot]), traits_of(node)
    if axes is None or traits.elementwise or traits.moves in IN_ORDER:
        return False
    if node.op == "Einsum":
        return _contracts(node, slot, axes)
    if traits.reduces:
        reduced = flow.reduced_axes(node)
        return reduced is None or any(holds_cells(axes[i]) for i in reduced)
    if node.op in ("MatMul", "FusedMatMul"):
        return holds_cells(axes[-1 if slot == 0 else max(-2, -len(axes))])
    if node.op == "Gemm":
        return any(holds_cells(axis) for axis in axes[1:])
    first = int(node.attrs.get("axis", -1))
    if traits.normalizes == "axis":
        return holds_cells(axes[first])
    if traits.normalizes == "trailing":
        return slot == 0 and any(map(holds_cells, axes[first:]))
    return True


def _contracts(node: gs.Node, slot: int, axes: Axes) -> bool:
    terms = einsum_labels(node)
    if terms is None:
        return True
    operands, result = terms
    gone = (axis for label, axis in zip(operands[slot], axes, strict=True) if label not in result)
    return any(map(holds_cells, gone))


def tensors_ignored_by_score(path: Subgraph, flow: AxisFlow, goal: str) -> set[str]:
    """The tensors on the path whose cells the score does not read, but only tokens beside them."""
    readers: dict[str, bool] = {goal: True}
    for node in reversed(path.nodes):
        for slot, tensor in enumerate(node.inputs):
            if tensor.name in path.tensors and not readers.get(tensor.name):
                readers[tensor.name] = _passes(path, flow, readers, node, slot)
    return {name for name, read in readers.items() if not read}


def _passes(
    path: Subgraph, flow: AxisFlow, read: dict[str, bool], node: gs.Node, slot: int
) -> bool:
    """Whether what the cells of an input hold goes on towards the score through this node."""
    axes = flow.axes_of(node.inputs[slot])
    if axes is None or not any(map(holds_cells, axes)) or mixes_positions(flow, node, slot):
        return True
    ahead = [each for each in node.outputs if each.name in path.tensors]
    known = [each for each in ahead if (left := flow.axes_of(each)) and any(map(holds_cells, left))]
    return any(flow.axes_of(each) is None for each in ahead) or any(read.get(e.name) for e in known)


@dataclass(frozen=True)
class Step:
    """A node with those of its inputs alone on which something is carried to the score."""

    inputs: list[gs.Tensor]
    outputs: list[gs.Tensor]


def prune_ignored(path: Subgraph, flow: AxisFlow, dead: set[str]) -> Subgraph:
    """The path without the ways on which cells only go where no one reads them."""
    read = {name: name not in dead for name in path.tensors}

    def carries(node: gs.Node, slot: int) -> bool:
        name = node.inputs[slot].name
        return name in path.tensors and (name in dead or _passes(path, flow, read, node, slot))

    written = {each.name for node in path.nodes for each in node.outputs}
    reached, steps = path.tensors - written, []
    for node in path.nodes:
        inputs = [
            each for i, each in enumerate(node.inputs) if each.name in reached and carries(node, i)
        ]
        if inputs:
            reached |= {each.name for each in node.outputs} & path.tensors
            steps.append(Step(inputs, node.outputs))
    return Subgraph(steps, reached)
