"""Weights outside of a model's protocol buffer, which holds 2 GB at most.

Of a model that is larger the large weights are memory maps of the file that they lie in. They are constants of
the graph like others; while a protocol buffer of it is read or written they stand among its inputs, and in
what is given to ONNX Runtime or to a file they are external data.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from onnx.external_data_helper import ExternalDataInfo, uses_external_data

from onnxcam.arrays import Array

LIMIT = 2**31 - 2**26  # bytes of weights in one protocol buffer; the rest is for the graph
LARGE = 1 << 16  # bytes of a weight that is worth a place of its own
PAGE = 4096  # where a weight begins in a file, so that it can be mapped


def mapped(proto: onnx.ModelProto, folder: Path) -> dict[str, Array]:
    """Take the large external weights out of a model that would not fit; their place is among the inputs.

    Nothing is read. ValueError or OSError for a file that is not there, too short, or outside of the folder.
    """
    told = [each for each in proto.graph.initializer if uses_external_data(each)]
    if sum(map(_length, told)) + proto.ByteSize() <= LIMIT:
        return {}
    weights = {each.name: _map(each, folder) for each in told if _length(each) >= LARGE}
    kept = [each for each in proto.graph.initializer if each.name not in weights]
    old = {each.name for each in proto.graph.input}
    for tensor in proto.graph.initializer:
        if tensor.name in weights and tensor.name not in old:
            given = onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            proto.graph.input.append(given)
    del proto.graph.initializer[:]
    proto.graph.initializer.extend(kept)
    return weights


def attach(graph: gs.Graph, weights: Mapping[str, Array]) -> None:
    """Make constants of the inputs of these names, in place."""
    for tensor in graph.inputs:
        if tensor.name in weights:
            tensor.to_constant(weights[tensor.name])
    graph.inputs = [each for each in graph.inputs if isinstance(each, gs.Variable)]


def detached(graph: gs.Graph) -> tuple[gs.Graph, dict[str, Array]]:
    """A copy of a graph that would not fit, its large weights among the inputs, and those; else the graph."""
    constants = [each for each in graph.tensors().values() if isinstance(each, gs.Constant)]
    if sum(map(_bytes, constants)) <= LIMIT:
        return graph, {}
    weights = {each.name: each.values for each in constants if _bytes(each) >= LARGE}
    copied = graph.copy()
    tensors = copied.tensors()
    for name, values in weights.items():
        place = tensors[name].to_variable(values.dtype, list(values.shape))
        place.type = "tensor_type"  # which it did not have as a constant
        copied.inputs.append(place)
    return copied, weights


def referred(proto: onnx.ModelProto, weights: Mapping[str, Array], location: str) -> None:
    """Make external data, in the file `location`, of the inputs that stand for weights, in place."""
    kept = [each for each in proto.graph.input if each.name not in weights]
    del proto.graph.input[:]
    proto.graph.input.extend(kept)
    for (name, values), offset in zip(weights.items(), _offsets(weights.values()), strict=True):
        tensor = proto.graph.initializer.add(name=name, dims=values.shape)
        tensor.data_type = onnx.helper.np_dtype_to_tensor_dtype(values.dtype)
        tensor.data_location = onnx.TensorProto.EXTERNAL
        told = {"location": location, "offset": offset, "length": values.nbytes}
        for key, value in told.items():
            tensor.external_data.add(key=key, value=str(value))


def write(path: Path, weights: Mapping[str, Array]) -> None:
    """The file of the weights, as `referred` tells of it."""
    with path.open("wb") as file:
        for values, offset in zip(weights.values(), _offsets(weights.values()), strict=True):
            file.seek(offset)
            values.tofile(file)


def _offsets(weights: Iterable[Array]) -> list[int]:
    found, end = [], 0
    for values in weights:
        found.append(end)
        end = -(-(end + values.nbytes) // PAGE) * PAGE
    return found


def _map(tensor: onnx.TensorProto, folder: Path) -> Array:
    told = ExternalDataInfo(tensor)
    path = (folder / told.location).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise ValueError(f"{told.location} is not in the model's folder")
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
    return np.memmap(path, dtype, "r", told.offset or 0, tuple(tensor.dims))


def _length(tensor: onnx.TensorProto) -> int:
    """Bytes of a weight; 0 for a type that NumPy does not have, which is read and not mapped."""
    dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type))
    return math.prod(tensor.dims) * dtype.itemsize if dtype.kind in "fiub" else 0


def _bytes(tensor: gs.Constant) -> int:
    """Bytes of a constant, which is not read for it."""
    dtype = np.dtype(tensor.dtype) if not isinstance(tensor.dtype, int) else None
    return math.prod(tensor.shape) * (dtype.itemsize if dtype and dtype.kind in "fiub" else 0)
