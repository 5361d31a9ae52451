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
from onnx.external_data_helper import uses_external_data

from onnxcam.arrays import Array
from onnxcam.errors import ModelError
from onnxcam.model.data_files import locate_data
from onnxcam.model.proto_walk import all_scopes, tensors

LIMIT = 2**31 - 2**26  # bytes of weights in one protocol buffer; the rest is for the graph
LARGE = 1 << 16  # bytes of a weight that is worth a place of its own
SUB_BYTE = {"int2": 2, "uint2": 2, "int4": 4, "uint4": 4, "float4_e2m1fn": 4}  # bits of a number
PAGE = 4096  # where a weight begins in a file, so that it can be mapped


def mmap_large_weights(proto: onnx.ModelProto, model: Path) -> dict[str, Array]:
    """Take the large external weights out of the model at the path `model` if it would not fit with them, and
    make them inputs.

    Nothing is read. ModelError for a file that is missing, too short, or outside the folder.
    """
    outside = [tensor for tensor in proto.graph.initializer if uses_external_data(tensor)]
    if not outside or sum(map(_size, outside)) + proto.ByteSize() <= LIMIT:
        return {}
    weights = {tensor.name: _map(tensor, model) for tensor in outside if _can_map(tensor)}
    kept = [each for each in proto.graph.initializer if each.name not in weights]
    old = {each.name for each in proto.graph.input}
    for tensor in proto.graph.initializer:
        if tensor.name in weights and tensor.name not in old:
            given = onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            proto.graph.input.append(given)
    del proto.graph.initializer[:]
    proto.graph.initializer.extend(kept)
    return weights


def read(proto: onnx.ModelProto, model: Path) -> None:
    """Read the external data of the model at the path `model` into it. ModelError if they cannot be read or do
    not fit.
    """
    outside = [tensor for tensor in tensors(all_scopes(proto)) if uses_external_data(tensor)]
    if sum(map(_size, outside)) > LIMIT:
        raise ModelError(
            f"{model}: constants of more than {LIMIT} bytes in inner graphs and attributes; "
            "export it with its weights as initializers"
        )
    for tensor in outside:
        path, offset = _locate(tensor, model)
        with path.open("rb") as file:
            file.seek(offset)
            _embed(tensor, file.read(_size(tensor)))


def use_embedded(proto: onnx.ModelProto, name: str) -> None:
    """Use the data that a model without a path holds itself, although it marks them as external. ModelError if
    it does not hold them.
    """
    for tensor in tensors(all_scopes(proto)):
        if uses_external_data(tensor):
            if not tensor.raw_data:
                raise ModelError(
                    f"{name}: {_title(tensor)} is in another file, whose folder is unknown; "
                    "give the path of the model, or a ModelProto loaded with its external data"
                )
            _embed(tensor, tensor.raw_data)


def _embed(tensor: onnx.TensorProto, content: bytes) -> None:
    tensor.raw_data = content
    tensor.data_location = onnx.TensorProto.DEFAULT
    del tensor.external_data[:]


def attach_weights(graph: gs.Graph, weights: Mapping[str, Array]) -> None:
    """Make constants of the inputs of these names, in place."""
    for tensor in graph.inputs:
        if tensor.name in weights:
            tensor.to_constant(weights[tensor.name])
    graph.inputs = [each for each in graph.inputs if isinstance(each, gs.Variable)]


def detach_large_weights(graph: gs.Graph) -> tuple[gs.Graph, dict[str, Array]]:
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


def reference_external_data(
    proto: onnx.ModelProto, weights: Mapping[str, Array], location: str
) -> None:
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


def _map(tensor: onnx.TensorProto, model: Path) -> Array:
    path, offset = _locate(tensor, model)
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
    return np.memmap(path, dtype, "r", offset, tuple(tensor.dims))


def _locate(tensor: onnx.TensorProto, model: Path) -> tuple[Path, int]:
    """The file with a tensor's content, and its offset there. ModelError, before anything is read, unless the
    file has as many bytes as the shape needs.
    """
    fields = {pair.key: pair.value for pair in tensor.external_data}
    path = locate_data(model, fields.get("location", ""), _title(tensor))
    try:
        offset, size = int(fields.get("offset", 0)), _size(tensor)
        length = int(fields.get("length", size))
        available = path.stat().st_size
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{model}: {_title(tensor)} in {path.name!r} cannot be read ({error})"
        ) from error
    problem = (
        f"is declared with {length} bytes, but its type and shape {list(tensor.dims)} need {size}"
        if length != size
        else f"begins at {offset} and has {size} bytes, but the file {path.name!r} has {available}"
    )
    if length != size or not 0 <= offset <= available - size:
        raise ModelError(
            f"{model}: external data cannot be read ({_title(tensor)} {problem}); "
            "copy or export the model and its data file again"
        )
    return path, offset


def _title(tensor: onnx.TensorProto) -> str:
    return f"the content of {tensor.name!r}" if tensor.name else "the content of a constant"


def _size(tensor: onnx.TensorProto) -> int:
    """Bytes of a tensor's content. ModelError for a type or shape that has none."""
    try:
        dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type))
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(
            f"{_title(tensor)} has an unknown data type ({tensor.data_type})"
        ) from error
    if dtype.hasobject or min(tensor.dims, default=0) < 0:
        raise ModelError(
            f"{_title(tensor)} cannot be external data: {dtype} of shape {list(tensor.dims)[:8]}"
        )
    bits = SUB_BYTE.get(dtype.name, 8 * dtype.itemsize)
    return -(-math.prod(tensor.dims) * bits // 8)


def _can_map(tensor: onnx.TensorProto) -> bool:
    """Whether a weight is large enough to be mapped, and of a type that NumPy has."""
    dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type))
    return dtype.kind in "fiub" and _size(tensor) >= LARGE


def _bytes(tensor: gs.Constant) -> int:
    """Bytes of a constant, which is not read for it."""
    dtype = np.dtype(tensor.dtype) if not isinstance(tensor.dtype, int) else None
    return math.prod(tensor.shape) * (dtype.itemsize if dtype and dtype.kind in "fiub" else 0)
