"""The pass over a written gradient that replaces patterns by what the runtime computes faster.

Rules write plain algebra. This pass runs once after the sweep. It rewrites only nodes that the sweep has
written, and knows no rules. A pattern that does not match leaves a correct, slower gradient.
"""

from __future__ import annotations

from collections.abc import Collection, Container, Iterable, Mapping

import onnx_graphsurgeon as gs

from onnxcam.autodiff.peepholes.pattern import Peephole, matches
from onnxcam.autodiff.peepholes.table import PEEPHOLES
from onnxcam.graph.tracing import Builder, Value


def optimize_gradient(
    graph: gs.Graph, start: int, peepholes: Iterable[Peephole] = PEEPHOLES
) -> None:
    """Rewrite the nodes from position `start` on, in place and in linear time.

    Nodes are taken in order, so the inputs of each one are optimized already. Tensors that the graph returns
    keep their names.
    """
    by_operator: dict[str, list[Peephole]] = {}
    for peephole in peepholes:
        by_operator.setdefault(peephole.pattern.operator, []).append(peephole)
    build, nodes = Builder(graph), graph.nodes[start:]
    del graph.nodes[start:]
    written, upcoming = {id(node): node for node in nodes}, set(map(id, nodes))
    returned = {id(tensor) for tensor in graph.outputs}
    for node in nodes:
        graph.nodes.append(node)
        upcoming.remove(id(node))
        while len(node.outputs) == 1 and id(node.outputs[0]) not in returned:
            position = len(graph.nodes)
            value = _replacement(build, node.outputs[0], by_operator.get(node.op, ()), written)
            new = graph.nodes[position:]
            if value is None or not upcoming.isdisjoint(_producers(new)):
                _detach(new)  # unused, or it would read what is computed further down
                break
            written.update({id(node): node for node in new})
            _redirect(node.outputs[0], value.tensor)
            _detach_unread(node, written, returned)
            node = value.tensor.inputs[0]  # the replacement may match, too
    graph.nodes[start:] = [node for node in graph.nodes[start:] if node.outputs]


def _replacement(
    build: Builder, tensor: gs.Tensor, peepholes: Iterable[Peephole], written: Collection[int]
) -> Value | None:
    """What the first peephole that applies writes. Tensors of unknown type or shape match none."""
    for peephole in peepholes:
        for bound in matches(peephole.pattern, tensor, written, {}):
            if any(operand.shape is None or operand.dtype is None for operand in bound.values()):
                continue
            values = {word: Value(build, bound[word]) for word in bound}
            if (value := peephole.rewrite(**values)) is not None:
                value.tensor.shape = None if tensor.shape is None else list(tensor.shape)
                return value
    return None


def _producers(nodes: Iterable[gs.Node]) -> set[int]:
    return {id(node) for reader in nodes for tensor in reader.inputs for node in tensor.inputs}


def _redirect(old: gs.Tensor, new: gs.Tensor) -> None:
    """Let all readers of a tensor read another, in place."""
    for reader in list(old.outputs):
        for slot, tensor in enumerate(reader.inputs):
            if tensor is old:
                reader.inputs[slot] = new


def _detach_unread(node: gs.Node, written: Mapping[int, gs.Node], returned: Container[int]) -> None:
    """Detach a node without readers from the graph, in place, and those before it that then have none."""
    pending = [node]
    while pending:
        node = pending.pop()
        if id(node) not in written:
            continue
        if not any(tensor.outputs or id(tensor) in returned for tensor in node.outputs):
            pending += [producer for tensor in node.inputs for producer in tensor.inputs]
            _detach([node])


def _detach(nodes: Iterable[gs.Node]) -> None:
    """Take nodes out of the graph, in place."""
    for node in nodes:
        node.inputs.clear()
        node.outputs.clear()
