"""External data: weights in a file next to the model's protocol buffer, which holds 2 GB at most.

Loading a larger model maps its large weights from their file into memory instead of reading them. In the graph
they are ordinary constants. While its protocol buffer is read or written they are declared among the inputs;
for ONNX Runtime and in files, they are external data.
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
from onnxcam.model.proto.walk import all_scopes, constant_tensors

MAX_EMBEDDED_BYTES = 2**31 - 2**26  # weights in one protocol buffer; the rest is for the graph
LARGE_BYTES = 1 << 16  # a weight of this size is mapped, or written to the file of weights
CACHED_LARGE_BYTES = 1 << 12  # the same of models in the cache
SUB_BYTE_BITS = {"int2": 2, "uint2": 2, "int4": 4, "uint4": 4, "float4_e2m1fn": 4}
PAGE_BYTES = 4096  # weights begin at a multiple of this in their file, so that they can be mapped


def mmap_large_weights(
    proto: onnx.ModelProto, model: Path, limit: int | None = None
) -> dict[str, Array]:
    """Map the large external weights of the model at the path `model` if it would have more than `limit` bytes
    with them (default: more than fit); in the protocol buffer, they become inputs. Returns them by name, or
    nothing if the model fits.

    Nothing is read. ModelError for a file that is missing, too short, or outside the folder.
    """
    external = [tensor for tensor in proto.graph.initializer if uses_external_data(tensor)]
    most = MAX_EMBEDDED_BYTES if limit is None else limit
    if not external or sum(map(content_bytes, external)) + proto.ByteSize() <= most:
        return {}
    weights = {tensor.name: _mmap(tensor, model) for tensor in external if _can_mmap(tensor)}
    remaining = [tensor for tensor in proto.graph.initializer if tensor.name not in weights]
    declared = {tensor.name for tensor in proto.graph.input}
    for tensor in proto.graph.initializer:
        if tensor.name in weights and tensor.name not in declared:
            proto.graph.input.append(
                onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            )
    del proto.graph.initializer[:]
    proto.graph.initializer.extend(remaining)
    return weights


def read_external_data(proto: onnx.ModelProto, model: Path) -> None:
    """Read the external data of the model at the path `model` into `proto`, in place. ModelError if they cannot
    be read or do not fit.
    """
    external = [
        tensor for tensor in constant_tensors(all_scopes(proto)) if uses_external_data(tensor)
    ]
    if sum(map(content_bytes, external)) > MAX_EMBEDDED_BYTES:
        raise ModelError(
            f"{model}: has constants of more than {MAX_EMBEDDED_BYTES} bytes in subgraphs and attributes; "
            "export it with its weights as initializers"
        )
    for tensor in external:
        path, offset = locate_tensor(tensor, model)
        with path.open("rb") as file:
            file.seek(offset)
            _embed(tensor, file.read(content_bytes(tensor)))


def use_embedded_data(proto: onnx.ModelProto, name: str) -> None:
    """Use the data that a model without a path holds itself, although it marks them as external, in place.
    ModelError if it does not hold them.
    """
    for tensor in constant_tensors(all_scopes(proto)):
        if uses_external_data(tensor):
            if not tensor.raw_data:
                raise ModelError(
                    f"{name}: {_describe(tensor)} is in another file, whose folder is unknown; "
                    "pass the path of the model, or a ModelProto loaded with its external data"
                )
            _embed(tensor, tensor.raw_data)


def _embed(tensor: onnx.TensorProto, content: bytes) -> None:
    tensor.raw_data = content
    tensor.data_location = onnx.TensorProto.DEFAULT
    del tensor.external_data[:]


def attach_weights(graph: gs.Graph, weights: Mapping[str, Array]) -> None:
    """Turn the inputs with these names into constants, in place."""
    for tensor in graph.inputs:
        if tensor.name in weights:
            tensor.to_constant(weights[tensor.name])
    graph.inputs = [tensor for tensor in graph.inputs if isinstance(tensor, gs.Variable)]


def detach_large_weights(graph: gs.Graph) -> tuple[gs.Graph, dict[str, Array]]:
    """A graph that fits into a protocol buffer, and the weights that it lacks.

    A graph that is too large is copied, with its large weights turned into inputs, which inner graphs read from
    outside; others are returned as they are.
    """
    constants = [tensor for scope in _scopes(graph) for tensor in _constants(scope)]
    if sum(map(_constant_bytes, constants)) <= MAX_EMBEDDED_BYTES:
        return graph, {}
    weights: dict[str, Array] = {}
    copy = graph.copy()
    for number, scope in enumerate(_scopes(copy)):
        for tensor in _constants(scope):
            if _constant_bytes(tensor) >= LARGE_BYTES:
                _detach(copy, tensor, f"/{number}" if number else "", weights)
    return copy, weights


def _scopes(graph: gs.Graph) -> list[gs.Graph]:
    return [graph, *graph.subgraphs(recursive=True)]


def _constants(scope: gs.Graph) -> list[gs.Constant]:
    return [tensor for tensor in scope.tensors().values() if isinstance(tensor, gs.Constant)]


def _detach(graph: gs.Graph, tensor: gs.Constant, suffix: str, weights: dict[str, Array]) -> None:
    """Turn a constant of a graph, or of one inside it, into an input, in place."""
    values, name = tensor.values, tensor.name
    if weights.get(name) is not values:
        name = f"{name}{suffix}" if name in graph.tensors() and suffix else name
        weights[name] = values
        graph.inputs.append(gs.Variable(name, values.dtype, list(values.shape)))
    variable = tensor.to_variable(values.dtype, list(values.shape))
    variable.name, variable.type = name, "tensor_type"  # constants have no type
    if not suffix:
        graph.inputs[-1] = variable


def reference_external_data(
    proto: onnx.ModelProto, weights: Mapping[str, Array], location: str
) -> None:
    """Turn the inputs that represent weights into external data in the file `location`, in place."""
    remaining = [tensor for tensor in proto.graph.input if tensor.name not in weights]
    del proto.graph.input[:]
    proto.graph.input.extend(remaining)
    for (name, values), offset in zip(weights.items(), _offsets(weights.values()), strict=True):
        tensor = proto.graph.initializer.add(name=name, dims=values.shape)
        tensor.data_type = onnx.helper.np_dtype_to_tensor_dtype(values.dtype)
        tensor.data_location = onnx.TensorProto.EXTERNAL
        fields = {"location": location, "offset": offset, "length": values.nbytes}
        for key, value in fields.items():
            tensor.external_data.add(key=key, value=str(value))


def write_weights(path: Path, weights: Mapping[str, Array]) -> None:
    """Write the file that `reference_external_data` refers to."""
    with path.open("wb") as file:
        for values, offset in zip(weights.values(), _offsets(weights.values()), strict=True):
            file.seek(offset)
            values.tofile(file)


def write_with_external_data(content: bytes, path: Path, location: str) -> None:
    """Write the content of an .onnx file to `path`, with its large weights in the file `location` next to it,
    which must not exist yet: ONNX Runtime maps it instead of reading it. OSError if writing fails.
    """
    onnx.save_model(
        onnx.load_from_string(content),
        path,
        save_as_external_data=True,
        location=location,
        size_threshold=CACHED_LARGE_BYTES,
    )


def _offsets(weights: Iterable[Array]) -> list[int]:
    """Where each weight begins in the file."""
    offsets, end = [], 0
    for values in weights:
        offsets.append(end)
        end = -(-(end + values.nbytes) // PAGE_BYTES) * PAGE_BYTES
    return offsets


def _mmap(tensor: onnx.TensorProto, model: Path) -> Array:
    path, offset = locate_tensor(tensor, model)
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
    return np.memmap(path, dtype, "r", offset, tuple(tensor.dims))


def locate_tensor(tensor: onnx.TensorProto, model: Path) -> tuple[Path, int]:
    """The file with a tensor's content, and its offset there. ModelError, before anything is read, unless the
    file has as many bytes as the shape needs.
    """
    fields = {pair.key: pair.value for pair in tensor.external_data}
    path = locate_data(model, fields.get("location", ""), _describe(tensor))
    try:
        offset, size = int(fields.get("offset", 0)), content_bytes(tensor)
        length = int(fields.get("length", size))
        available = path.stat().st_size
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{model}: {_describe(tensor)} in {path.name!r} cannot be read ({error})"
        ) from error
    problem = (
        f"is declared with {length} bytes, but its type and shape {list(tensor.dims)} need {size}"
        if length != size
        else f"begins at {offset} and has {size} bytes, but the file {path.name!r} has {available}"
    )
    if length != size or not 0 <= offset <= available - size:
        raise ModelError(
            f"{model}: external data cannot be read ({_describe(tensor)} {problem}); "
            "copy or export the model and its data file again"
        )
    return path, offset


def _describe(tensor: onnx.TensorProto) -> str:
    return f"the content of {tensor.name!r}" if tensor.name else "the content of a constant"


def content_bytes(tensor: onnx.TensorProto) -> int:
    """Bytes of a tensor's content. ModelError for a type or shape that has none."""
    try:
        dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type))
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(
            f"{_describe(tensor)} has an unknown data type ({tensor.data_type})"
        ) from error
    if dtype.hasobject or min(tensor.dims, default=0) < 0:
        raise ModelError(
            f"{_describe(tensor)} cannot be external data: {dtype} of shape {list(tensor.dims)[:8]}"
        )
    bits = SUB_BYTE_BITS.get(dtype.name, 8 * dtype.itemsize)
    return -(-math.prod(tensor.dims) * bits // 8)


def _can_mmap(tensor: onnx.TensorProto) -> bool:
    """Whether a weight is large enough to be mapped, and of a type that NumPy has."""
    dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type))
    return dtype.kind in "fiub" and content_bytes(tensor) >= LARGE_BYTES


def _constant_bytes(tensor: gs.Constant) -> int:
    """Bytes of a constant, computed without reading it; 0 for types that NumPy lacks."""
    dtype = np.dtype(tensor.dtype) if not isinstance(tensor.dtype, int) else None
    return math.prod(tensor.shape) * (dtype.itemsize if dtype and dtype.kind in "fiub" else 0)
