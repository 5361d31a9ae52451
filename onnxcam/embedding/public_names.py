"""Give inputs and outputs of the file their names, which tensors inside the model may have."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs

from onnxcam.errors import ModelError
from onnxcam.graph.tracing import Builder, Value

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


def take_integers(build: Builder, image: Value, dtype: np.dtype[Any]) -> str:
    """Let a graph take integers where it takes the same numbers as floats, in place. Returns the name of the
    new input, which takes the place of the image.
    """
    graph = build.graph
    integers = build.input(build.unique_name("image"), dtype, image.shape)
    cast = integers.astype(image.dtype).tensor.inputs[0]
    graph.inputs.pop()
    for tensors in (graph.inputs, graph.outputs):
        tensors[:] = [integers.tensor if t is image.tensor else t for t in tensors]
    cast.outputs = [image.tensor]
    return integers.name


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
