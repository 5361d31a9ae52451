"""Walk over all graphs and constants of a protocol buffer, and order nodes by their dependencies."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import TypeAlias

import onnx
from onnx import AttributeProto

Scope: TypeAlias = onnx.GraphProto | onnx.FunctionProto

# Types of attributes without graphs and tensors; ONNX's checker rejects attributes with other content.
PLAIN_TYPES = {
    *(AttributeProto.INT, AttributeProto.FLOAT, AttributeProto.STRING),
    *(AttributeProto.INTS, AttributeProto.FLOATS, AttributeProto.STRINGS),
}


class CycleError(ValueError):
    """Something depends on itself, perhaps through others; `index` says which."""

    def __init__(self, index: int) -> None:
        self.index = index
        super().__init__(f"a cycle at {index}")


def describe_node(node: onnx.NodeProto) -> str:
    """The operator of a node, and its name or that of its first output."""
    return f"{node.op_type} {node.name or ', '.join(node.output[:1])!r}"


def inner_graphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """The graphs among the attributes of a node: branches and bodies."""
    for attribute in node.attribute:
        if attribute.type in PLAIN_TYPES:
            continue
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def nested_scopes(*roots: Scope) -> Iterator[Scope]:
    """Graphs and functions, and all graphs in them."""
    pending = list(roots)
    while pending:
        scope = pending.pop()
        yield scope
        for node in scope.node:
            pending.extend(inner_graphs(node))


def all_scopes(proto: onnx.ModelProto) -> Iterator[Scope]:
    """Every graph and function of a model."""
    return nested_scopes(proto.graph, *proto.functions)


def constant_tensors(scopes: Iterable[Scope]) -> Iterator[onnx.TensorProto]:
    """Every constant of graphs and functions: initializers and attributes, and the parts of sparse ones."""
    for scope in scopes:
        sparse: list[onnx.SparseTensorProto] = []
        if isinstance(scope, onnx.GraphProto):
            yield from scope.initializer
            sparse.extend(scope.sparse_initializer)
        for node in scope.node:
            for attribute in node.attribute:
                if attribute.type in PLAIN_TYPES:
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


def dependency_order(
    reads: Sequence[Collection[object]], writes: Sequence[Collection[object]]
) -> list[int]:
    """Indices sorted so that a name is written before it is read, otherwise in the present order. Names that
    nothing writes are taken as available. CycleError if there is no such order.
    """
    writers = {name: index for index, names in enumerate(writes) for name in names}
    order: list[int] = []
    state = [""] * len(reads)  # "", "waiting" or "done"
    for start in range(len(reads)):
        stack = [start]
        while stack:
            index = stack[-1]
            sources = (
                []
                if state[index] == "done"
                else [writers[name] for name in reads[index] if name in writers]
            )
            missing = [source for source in sources if state[source] != "done"]
            if missing and (state[index] or index in missing):
                raise CycleError(index)
            if missing:
                state[index] = "waiting"
                stack.extend(missing)
                continue
            if state[index] != "done":
                state[index] = "done"
                order.append(index)
            stack.pop()
    return order
