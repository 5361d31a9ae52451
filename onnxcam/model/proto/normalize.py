"""Normalize what ONNX Runtime runs but ONNX's own tools reject or misread.

This includes the default domain spelled "ai.onnx", graphs without a name, nodes in any order, sparse constants,
and an image input with a default value.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import onnx
from onnx import numpy_helper

from onnxcam.errors import ModelError
from onnxcam.model.channel_axis import COLORS
from onnxcam.model.proto.walk import (
    CycleError,
    Scope,
    dependency_order,
    describe_node,
    inner_graphs,
)

DEFAULT_DOMAIN = "ai.onnx"  # another spelling of ""
MAX_DENSE_BYTES = 1 << 30  # of all sparse constants of a model, once they are dense


def use_default_domain(proto: onnx.ModelProto, scopes: Iterable[Scope]) -> None:
    """Spell the default domain "", import each domain once, and name every graph, in place. If a domain is
    imported twice, the last version counts, as for ONNX Runtime.
    """
    for imports in (proto.opset_import, *(function.opset_import for function in proto.functions)):
        versions = {
            "" if opset.domain == DEFAULT_DOMAIN else opset.domain: opset.version
            for opset in imports
        }
        del imports[:]
        imports.extend(onnx.helper.make_opsetid(*pair) for pair in versions.items())
    for scope in scopes:
        scope.name = scope.name or "graph"
        for node in scope.node:
            if node.domain == DEFAULT_DOMAIN:
                node.domain = ""


def sort_nodes(proto: onnx.ModelProto, name: str) -> None:
    """Put nodes after those whose outputs they read, in every graph, in place. Sorted graphs do not change.

    ModelError if nodes read each other's outputs.
    """
    for scope in (proto.graph, *proto.functions):
        _sort(scope, name)


def _sort(scope: Scope, name: str) -> set[str]:
    """Sort the nodes of a graph and of its inner graphs in place; returns the outer tensors that it reads."""
    nodes = list(scope.node)
    reads = [set(node.input).union(*(_sort(g, name) for g in inner_graphs(node))) for node in nodes]
    writes = [set(node.output) - {""} for node in nodes]
    try:
        order = dependency_order(reads, writes)
    except CycleError as error:
        node = nodes[error.index]
        raise ModelError(
            f"{name}: {describe_node(node)} depends on its own output, through other nodes, so the graph "
            "cannot run; export the model again"
        ) from error
    if order != sorted(order):
        del scope.node[:]
        scope.node.extend(nodes[index] for index in order)
    return set().union(*reads, _output_names(scope)) - set().union(*writes, _input_names(scope))


def _output_names(scope: Scope) -> set[str]:
    if isinstance(scope, onnx.FunctionProto):
        return set(scope.output)
    return {tensor.name for tensor in scope.output}


def _input_names(scope: Scope) -> set[str]:
    """The inputs and constants of a graph."""
    if isinstance(scope, onnx.FunctionProto):
        return set(scope.input)
    sparse = {tensor.values.name for tensor in scope.sparse_initializer}
    return sparse | {tensor.name for tensor in (*scope.input, *scope.initializer)}


def make_dense(scopes: Iterable[Scope], name: str) -> None:
    """Make sparse constants dense, in place. ModelError if that takes more than MAX_DENSE_BYTES bytes."""
    budget = MAX_DENSE_BYTES
    for scope in scopes:
        if isinstance(scope, onnx.GraphProto):
            for sparse in scope.sparse_initializer:
                budget -= _dense_bytes(sparse, budget, name)
                scope.initializer.append(_to_dense(sparse))
            del scope.sparse_initializer[:]
        for node in scope.node:
            for attribute in node.attribute:
                if attribute.name == "sparse_value" and attribute.HasField("sparse_tensor"):
                    budget -= _dense_bytes(attribute.sparse_tensor, budget, name)
                    attribute.CopyFrom(
                        onnx.helper.make_attribute("value", _to_dense(attribute.sparse_tensor))
                    )


def _dense_bytes(sparse: onnx.SparseTensorProto, budget: int, name: str) -> int:
    """Bytes of the dense tensor. ModelError if they exceed the budget."""
    dtype = onnx.helper.tensor_dtype_to_np_dtype(sparse.values.data_type)
    size = math.prod(sparse.dims) * np.dtype(dtype).itemsize
    if size > budget or min(sparse.dims, default=0) < 0:
        raise ModelError(
            f"{name}: the sparse constants need more than {MAX_DENSE_BYTES} bytes as dense tensors "
            f"({sparse.values.name!r}: {list(sparse.dims)[:8]}); export the model with dense constants"
        )
    return size


def _to_dense(sparse: onnx.SparseTensorProto) -> onnx.TensorProto:
    values = numpy_helper.to_array(sparse.values).ravel()
    indices = numpy_helper.to_array(sparse.indices)
    dense = np.zeros(tuple(sparse.dims), values.dtype)
    if indices.ndim == 2:
        dense[tuple(indices.T)] = values
    else:
        dense.reshape(-1)[indices] = values
    return numpy_helper.from_array(dense, sparse.values.name)


def remove_defaults(proto: onnx.ModelProto) -> tuple[str, ...]:
    """Turn inputs that have a default value into constants, in place; returns notices.

    IR version 3 required all weights to be inputs. Only the image stays an input, without its default, if no
    input without a default can take it.
    """
    graph = proto.graph
    defaults = {tensor.name: tensor for tensor in graph.initializer}
    required = [tensor for tensor in graph.input if tensor.name not in defaults]
    images = [] if any(_rank(tensor) == 4 for tensor in required) else _image_defaults(graph)
    proto.ir_version = max(proto.ir_version, 4)
    image = images[0] if len(images) == 1 else None
    inputs = [
        tensor for tensor in graph.input if tensor.name not in defaults or tensor.name == image
    ]
    del graph.input[:]
    graph.input.extend(inputs)
    if image is None:
        return ()
    graph.initializer.remove(defaults[image])
    return (f"the image is fed to the input {image!r} instead of its default value",)


def _image_defaults(graph: onnx.GraphProto) -> list[str]:
    """Inputs with a default that could take an image: they have four axes, colors along one of them, and are
    read only as the first input of operators, like data and unlike weights.
    """
    read_first = {name for node in graph.node for name in node.input[:1]}
    read_later = {name for node in graph.node for name in node.input[1:]}
    return [
        tensor.name
        for tensor in graph.initializer
        if len(tensor.dims) == 4
        and COLORS & {tensor.dims[1], tensor.dims[3]}
        and any(tensor.name == declared.name for declared in graph.input)
        and tensor.name in read_first - read_later
    ]


def _rank(tensor: onnx.ValueInfoProto) -> int:
    return len(tensor.type.tensor_type.shape.dim)
