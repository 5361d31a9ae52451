"""Give inputs and outputs of the file their names, which tensors inside the model may have."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import onnx_graphsurgeon as gs

from onnxcam.errors import ModelError

RENAMED = "onnxcam/inner/"  # the prefix of the names of tensors that had one of these


def require_free_names(graph: gs.Graph, names: Iterable[str]) -> None:
    """ModelError if an input or output of the model has one of these names."""
    own = [tensor.name for tensor in (*graph.inputs, *graph.outputs)]
    for name in names:
        if name in own:
            raise ModelError(
                f"the model has an input or output named {name!r}, as an input or output of the explanation is "
                "named; export the model with another name for it"
            )


def give_public_names(graph: gs.Graph, names: Mapping[str, str]) -> None:
    """Rename tensors at all depths, in place; other tensors that have the new names get a prefix."""
    prefixed = {name: f"{RENAMED}{name}" for name in names.values()}
    replaced = {**prefixed, **names}
    scopes = [graph, *graph.subgraphs(recursive=True)]
    tensors = {
        id(tensor): tensor
        for scope in scopes
        for tensor in (
            *scope.inputs,
            *scope.outputs,
            *(t for node in scope.nodes for t in (*node.inputs, *node.outputs)),
        )
    }
    for tensor in tensors.values():
        tensor.name = replaced.get(tensor.name, tensor.name)
