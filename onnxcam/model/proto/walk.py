"""All graphs and constants of a protocol buffer, and an order by dependencies."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import TypeAlias

import onnx
from onnx import AttributeProto

Scope: TypeAlias = onnx.GraphProto | onnx.FunctionProto

# Types of attributes without graphs and tensors; ONNX's checker refuses those that hold what they do not say.
PLAIN = {
    *(AttributeProto.INT, AttributeProto.FLOAT, AttributeProto.STRING),
    *(AttributeProto.INTS, AttributeProto.FLOATS, AttributeProto.STRINGS),
}


class CycleError(ValueError):
    """Something depends on itself, perhaps through others; `place` is its index."""

    def __init__(self, place: int) -> None:
        self.place = place
        super().__init__(f"a cycle at {place}")


def title_of(node: onnx.NodeProto) -> str:
    """The operator of a node and its name, or that of its first output."""
    return f"{node.op_type} {node.name or ', '.join(node.output[:1])!r}"


def inner_graphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """The graphs among the attributes of a node: branches and bodies."""
    for attribute in node.attribute:
        if attribute.type in PLAIN:
            continue
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def scopes(*outer: Scope) -> Iterator[Scope]:
    """Graphs and functions, and all graphs in them."""
    waiting = list(outer)
    while waiting:
        scope = waiting.pop()
        yield scope
        for node in scope.node:
            waiting.extend(inner_graphs(node))


def all_scopes(proto: onnx.ModelProto) -> Iterator[Scope]:
    """Every graph and function of a model."""
    return scopes(proto.graph, *proto.functions)


def tensors(scopes: Iterable[Scope]) -> Iterator[onnx.TensorProto]:
    """Every constant of graphs and functions: initializers and attributes, and the parts of sparse ones."""
    for scope in scopes:
        sparse: list[onnx.SparseTensorProto] = []
        if isinstance(scope, onnx.GraphProto):
            yield from scope.initializer
            sparse.extend(scope.sparse_initializer)
        for node in scope.node:
            for attribute in node.attribute:
                if attribute.type in PLAIN:
                    continue
                if attribute.HasField("t"):
                    yield attribute.t
                yield from attribute.tensors
                if attribute.HasField("sparse_tensor"):
                    sparse.append(attribute.sparse_tensor)
                sparse.extend(attribute.sparse_tensors)
        for tensor in sparse:
            yield tensor.values
            yield tensor.indices


def order_by_need(
    needs: Sequence[Collection[object]], gives: Sequence[Collection[object]]
) -> list[int]:
    """Indices sorted so that what gives a name comes before what needs it, otherwise unchanged. Names that
    nothing gives are taken as available. CycleError if there is no such order.
    """
    givers = {name: i for i, names in enumerate(gives) for name in names}
    order: list[int] = []
    state = [""] * len(needs)  # "", "waiting" or "done"
    for start in range(len(needs)):
        stack = [start]
        while stack:
            place = stack[-1]
            before = (
                [] if state[place] == "done" else [givers[n] for n in needs[place] if n in givers]
            )
            missing = [giver for giver in before if state[giver] != "done"]
            if missing and (state[place] or place in missing):
                raise CycleError(place)
            if missing:
                state[place] = "waiting"
                stack.extend(missing)
                continue
            if state[place] != "done":
                state[place] = "done"
                order.append(place)
            stack.pop()
    return order
