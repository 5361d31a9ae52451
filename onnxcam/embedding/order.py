"""Bring the nodes of a graph into an order in which each reads only what was computed before."""

from __future__ import annotations

from collections import deque

import onnx_graphsurgeon as gs

from onnxcam.graph.dims import is_static
from onnxcam.graph.reachability import captured_tensors


def sort_nodes(graph: gs.Graph) -> gs.Graph:
    """The graph with its nodes in such an order, in place; nodes whose results nothing reads are removed."""
    producers = {
        tensor.name: number
        for number, node in enumerate(graph.nodes)
        for tensor in node.outputs
        if tensor.name
    }
    sources = [
        {
            producers[tensor.name]
            for tensor in (*node.inputs, *captured_tensors(node))
            if tensor.name in producers
        }
        for node in graph.nodes
    ]
    needed = _reachable([producers[t.name] for t in graph.outputs if t.name in producers], sources)
    readers: dict[int, list[int]] = {}
    for number in needed:
        for source in sources[number]:
            readers.setdefault(source, []).append(number)
    ready, ordered = deque(number for number in needed if not sources[number]), list[int]()
    while ready:
        ordered.append(ready.popleft())
        for reader in readers.get(ordered[-1], []):
            sources[reader].discard(ordered[-1])
            if not sources[reader]:
                ready.append(reader)
    graph.nodes[:] = [graph.nodes[number] for number in ordered]
    return graph


def _reachable(ends: list[int], sources: list[set[int]]) -> list[int]:
    """The numbers of the nodes that these depend on, in the order of the graph."""
    waiting, needed = [*ends], set[int]()
    while waiting:
        number = waiting.pop()
        if number not in needed:
            needed.add(number)
            waiting += sources[number]
    return sorted(needed)


def forget_free_sizes(graph: gs.Graph) -> None:
    """Remove the shapes of tensors inside the graph that are not of one size, in place: the network runs on
    other numbers of rows than the names in them say.
    """
    ends = {id(tensor) for tensor in (*graph.inputs, *graph.outputs)}
    for tensor in graph.tensors().values():
        is_inside = isinstance(tensor, gs.Variable) and id(tensor) not in ends
        if is_inside and tensor.shape is not None and not is_static(tuple(tensor.shape)):
            tensor.shape = None


def forget_constant_shapes(graph: gs.Graph) -> None:
    """Remove the dtypes and shapes of what is computed of constants alone, in place: they follow from those of
    the constants, and would be a tenth of what a small quantized model grows by.
    """
    outputs = {id(tensor) for tensor in graph.outputs}
    for node in graph.nodes:
        operands = [*node.inputs, *captured_tensors(node)]
        if all(isinstance(tensor, gs.Constant) or tensor.is_empty() for tensor in operands):
            for tensor in node.outputs:
                if id(tensor) not in outputs:
                    tensor.dtype = tensor.shape = None
