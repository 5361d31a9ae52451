"""Write nodes of a graph a second time, reading other tensors than the first time."""

from __future__ import annotations

from collections.abc import Iterable

import onnx_graphsurgeon as gs

from onnxcam.errors import ModelError
from onnxcam.graph.node_errors import name_of
from onnxcam.graph.operators import operator_key, traits_of
from onnxcam.graph.reachability import captured_tensors
from onnxcam.graph.tracing import Builder


def copy_nodes(build: Builder, nodes: Iterable[gs.Node], copies: dict[str, gs.Tensor]) -> None:
    """Copy those of the nodes, which are in order, that depend on the values of tensors with a copy; `copies`
    has the copy of each tensor by its name, and gets those of their outputs. Everything else is shared.

    ModelError for a node that runs inner graphs, whose tensors cannot be replaced.
    """
    for node in nodes:
        if _depends_on_values(node, copies):
            copies.update(_copy(build, node, copies))


def _depends_on_values(node: gs.Node, copies: dict[str, gs.Tensor]) -> bool:
    """Whether a node reads numbers, not only sizes, of which there is a copy."""
    if any(tensor.name in copies for tensor in captured_tensors(node)):
        raise ModelError(
            f"{operator_key(node.op, node.domain)} ({name_of(node)}) selects or repeats nodes at run time, so "
            "that they cannot be run on other values; fix the sizes of the input, or export one branch"
        )
    return not traits_of(node).reads_shape and any(tensor.name in copies for tensor in node.inputs)


def _copy(build: Builder, node: gs.Node, copies: dict[str, gs.Tensor]) -> dict[str, gs.Tensor]:
    """The outputs of a second node, which reads copies; by the names of the first node's outputs."""
    # a tensor that loses rows gets another name, and then new nodes must not take that of its node
    name = build.unique_name(f"copy/{node.op}")
    outputs = [
        gs.Variable.empty()
        if tensor.is_empty()
        else gs.Variable(f"{name}:{slot}" if slot else name, tensor.dtype, tensor.shape)
        for slot, tensor in enumerate(node.outputs)
    ]
    inputs = [copies.get(tensor.name, tensor) for tensor in node.inputs]
    copy = gs.Node(node.op, name, dict(node.attrs), inputs, outputs, domain=node.domain)
    build.graph.nodes.append(copy)
    build.tensors |= {tensor.name: tensor for tensor in outputs if not tensor.is_empty()}
    names = [tensor.name for tensor in node.outputs]
    return {name: tensor for name, tensor in zip(names, outputs, strict=True) if name}
