"""Which nodes and tensors lie between some tensors and a score, and what a tensor depends on."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from onnxcam.graph.operators import traits_of

# whether something flows through this input
FlowPredicate: TypeAlias = Callable[[gs.Node, int], bool]
ONNX_FLOATS = {onnx.TensorProto.BFLOAT16}  # that NumPy does not have


def producer(tensor: gs.Tensor) -> gs.Node | None:
    """The node that writes a tensor; None for inputs and constants."""
    return tensor.inputs[0] if tensor.inputs else None


@dataclass(frozen=True)
class Subgraph:
    """The nodes between sources and goals, in the graph's order, and the tensors that link them."""

    nodes: list[gs.Node]
    tensors: set[str]


def is_float(tensor: gs.Tensor) -> bool:
    """Whether a tensor can carry a derivative. One of unknown type is assumed to."""
    if tensor.dtype is None:
        return True
    if isinstance(tensor.dtype, int):
        return tensor.dtype in ONNX_FLOATS
    return bool(np.issubdtype(tensor.dtype, np.floating)) or np.dtype(tensor.dtype).kind == "V"


def carries_floats(node: gs.Node, slot: int) -> bool:
    """The widest flow: through any float input of any operator."""
    return bool(is_float(node.inputs[slot]))


def subgraph_between(
    graph: gs.Graph, sources: Collection[str], goals: Collection[str], carries: FlowPredicate
) -> Subgraph:
    """The nodes and tensors on paths from a source to a goal, through inputs that `carries` accepts."""
    reached, after_source = set(sources), []
    for node in graph.nodes:
        if any(True for _ in _reached_inputs(node, reached, carries)):
            reached.update(t.name for t in node.outputs if t.name and is_float(t))
            after_source.append(node)
    needed, on_path = set(goals) & reached, []
    for node in reversed(after_source):
        if any(tensor.name in needed for tensor in node.outputs):
            needed.update(_reached_inputs(node, reached, carries))
            on_path.append(node)
    return Subgraph(on_path[::-1], needed)


def _reached_inputs(node: gs.Node, reached: set[str], carries: FlowPredicate) -> Iterator[str]:
    for slot, tensor in enumerate(node.inputs):
        if tensor.name in reached and carries(node, slot):
            yield tensor.name
    for attribute in node.attrs.values():
        if isinstance(attribute, gs.Graph):  # a branch or a loop reads tensors around it
            yield from (
                tensor.name
                for inner in attribute.nodes
                for tensor in inner.inputs
                if tensor.name in reached and is_float(tensor)
            )


def bottlenecks(path: Subgraph) -> list[str]:
    """The tensors through which everything on the path passes, from the sources to the goal.

    A tensor is a bottleneck if, when it is written, all readers of earlier tensors have run. That does
    not depend on the topological order.
    """
    readers: dict[str, int] = {}
    for node in path.nodes:
        for name in {tensor.name for tensor in node.inputs} & path.tensors:
            readers[name] = readers.get(name, 0) + 1
    written = {tensor.name for node in path.nodes for tensor in node.outputs}
    live = {name for name in path.tensors if name not in written}
    names = list(live) if len(live) == 1 else []
    for node in path.nodes:
        for name in {tensor.name for tensor in node.inputs} & path.tensors:
            readers[name] -= 1
            if not readers[name]:
                live.discard(name)
        produced = [tensor.name for tensor in node.outputs if tensor.name in path.tensors]
        live.update(produced)
        if len(live) == 1 and produced:
            names.extend(produced)
    return names


def depends_on(tensor: gs.Tensor, sources: Collection[str]) -> bool:
    """Whether a tensor's values, not only its shape, can depend on one of the sources."""
    visited: set[str] = set()
    waiting = [tensor]
    while waiting:
        current = waiting.pop()
        if current.name in sources:
            return True
        if current.name in visited or isinstance(current, gs.Constant):
            continue
        visited.add(current.name)
        for node in current.inputs:
            if not traits_of(node).reads_shape:
                waiting.extend(node.inputs)
                waiting.extend(captured_tensors(node))
    return False


def captured_tensors(node: gs.Node) -> Iterator[gs.Tensor]:
    """The tensors that the branches and loops of a node read, at any depth, including their own tensors."""
    for attribute in node.attrs.values():
        if isinstance(attribute, gs.Graph):
            yield from attribute.outputs
            for inner in attribute.nodes:
                yield from inner.inputs
                yield from captured_tensors(inner)
