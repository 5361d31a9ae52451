"""Which nodes and tensors lie between some tensors and a score."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from onnxcam.graph.operators import traits_of

FlowPredicate: TypeAlias = Callable[[gs.Node, int], bool]  # may something flow through this input?
FLOATS = {onnx.TensorProto.BFLOAT16}


def producer(tensor: gs.Tensor) -> gs.Node | None:
    """The node that writes a tensor; None for inputs and constants."""
    return tensor.inputs[0] if tensor.inputs else None


@dataclass(frozen=True)
class Subgraph:
    """The nodes between sources and goals in the graph's order, and the tensors that link them."""

    nodes: list[gs.Node]
    tensors: set[str]


def is_float(tensor: gs.Tensor) -> bool:
    """Whether a tensor can carry a derivative; one of unknown type is taken to."""
    if tensor.dtype is None:
        return True
    if isinstance(tensor.dtype, int):
        return tensor.dtype in FLOATS
    return bool(np.issubdtype(tensor.dtype, np.floating)) or np.dtype(tensor.dtype).kind == "V"


def carries_floats(node: gs.Node, slot: int) -> bool:
    """The widest notion of a path: any float input of any operator."""
    return bool(is_float(node.inputs[slot]))


def subgraph_between(
    graph: gs.Graph, sources: Collection[str], goals: Collection[str], carries: FlowPredicate
) -> Subgraph:
    """What lies on a way from a source to a goal through inputs that carry."""
    reached, ahead = set(sources), []
    for node in graph.nodes:
        if any(True for _ in _open(node, reached, carries)):
            reached.update(each.name for each in node.outputs if each.name and is_float(each))
            ahead.append(node)
    needed, behind = set(goals) & reached, []
    for node in reversed(ahead):
        if any(each.name in needed for each in node.outputs):
            needed.update(_open(node, reached, carries))
            behind.append(node)
    return Subgraph(behind[::-1], needed)


def _open(node: gs.Node, reached: set[str], carries: FlowPredicate) -> Iterator[str]:
    for slot, tensor in enumerate(node.inputs):
        if tensor.name in reached and carries(node, slot):
            yield tensor.name
    for attribute in node.attrs.values():
        if isinstance(attribute, gs.Graph):  # a branch or a loop reads tensors around it
            yield from (
                each.name
                for inner in attribute.nodes
                for each in inner.inputs
                if each.name in reached and is_float(each)
            )


def bottlenecks(path: Subgraph) -> list[str]:
    """The tensors through which everything on the path passes, from the sources to the goal.

    A tensor is one if it is the only open one at the moment it is written: everything written before
    it has no reader left, and that is so in any topological order.
    """
    readers: dict[str, int] = {}
    for node in path.nodes:
        for name in {each.name for each in node.inputs} & path.tensors:
            readers[name] = readers.get(name, 0) + 1
    written = {each.name for node in path.nodes for each in node.outputs}
    open_now = {name for name in path.tensors if name not in written}
    found = list(open_now) if len(open_now) == 1 else []
    for node in path.nodes:
        for name in {each.name for each in node.inputs} & path.tensors:
            readers[name] -= 1
            if not readers[name]:
                open_now.discard(name)
        fresh = [each.name for each in node.outputs if each.name in path.tensors]
        open_now.update(fresh)
        if len(open_now) == 1 and fresh:
            found.extend(fresh)
    return found


def depends_on(tensor: gs.Tensor, sources: Collection[str]) -> bool:
    """Whether a tensor's values, not only its shape, can depend on one of the sources."""
    seen: set[str] = set()
    waiting = [tensor]
    while waiting:
        current = waiting.pop()
        if current.name in sources:
            return True
        if current.name in seen or isinstance(current, gs.Constant):
            continue
        seen.add(current.name)
        for node in current.inputs:
            if not traits_of(node).reads_shape:
                waiting.extend(node.inputs)
                waiting.extend(captured_tensors(node))
    return False


def captured_tensors(node: gs.Node) -> Iterator[gs.Tensor]:
    """What branches and loops, however deep, read of the tensors around them (and their own)."""
    for attribute in node.attrs.values():
        if isinstance(attribute, gs.Graph):
            yield from attribute.outputs
            for inner in attribute.nodes:
                yield from inner.inputs
                yield from captured_tensors(inner)
