"""Make inputs of a model constants: the model then has only its image as input, and everything that follows,
from shape inference to folding, sees the values as if they had always been part of the file.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from onnx import numpy_helper

from onnxcam.arrays import Array
from onnxcam.bound_input import BoundInput
from onnxcam.errors import OnnxcamError, SettingError, UnknownNameError, unknown
from onnxcam.model.input_values import convert, describe_input, type_text
from onnxcam.model.proto.declared_sizes import MAX_INPUT_SIZE, declared_dims, declared_shapes
from onnxcam.model.proto.walk import nested_scopes

LISTED = 8  # inputs in a message
IMAGE_RANK = 4


def bind_proto(
    proto: onnx.ModelProto, model: str, arrays: Mapping[str, Array], weights: Collection[str] = ()
) -> tuple[tuple[BoundInput, ...], tuple[str, ...]]:
    """Make the inputs with these names constants, in place. Returns their records, and notices.

    An array with fewer axes than the input gets leading axes of size 1. Default values are replaced. `weights`
    names inputs that represent weights. If anything does not fit, one error names all faults: SettingError, or
    UnknownNameError for a single unknown name.
    """
    if not arrays:
        return (), ()
    inputs = {tensor.name: tensor for tensor in proto.graph.input if tensor.name not in weights}
    image = _image_among(proto, inputs, arrays)
    errors: list[OnnxcamError] = []
    values: dict[str, Array] = {}
    for name, array in arrays.items():
        try:
            if name == image:
                raise SettingError(
                    f"{model}: the input {image!r} is the image; its value cannot be given, pass an image"
                )
            values[name] = _fit(inputs, name, array, model)
        except OnnxcamError as error:
            errors.append(error)
    if len(errors) == 1:
        raise errors[0]
    if errors:
        prefix = f"{model}: "
        raise SettingError(prefix + "; ".join(str(error).removeprefix(prefix) for error in errors))
    notices = tuple(
        f"the value of the input {name!r} is ignored, because nothing reads it"
        for name in values
        if name not in _read_names(proto.graph)
    )
    _make_constants(proto.graph, inputs, values)
    return tuple(describe_input(name, array) for name, array in values.items()), notices


def require_rows_of_images(graph: gs.Graph, model: str, bound: Collection[BoundInput]) -> None:
    """SettingError if all outputs have as many rows as the values of an input, for any number of images."""
    images = [tensor for tensor in graph.inputs if len(tensor.shape or ()) == IMAGE_RANK]
    rows = {output.shape[0] for output in graph.outputs if output.shape}
    if len(rows) != 1 or not images or isinstance(images[0].shape[0], int):
        return
    for record in bound:
        if 1 not in rows and rows == {*record.shape[:1]}:
            raise SettingError(
                f"{model}: the input {record.name!r} has {record.shape[0]} rows, so the model returns as many "
                "results for one image; give one row, which serves all images"
            )


def _fit(inputs: Mapping[str, onnx.ValueInfoProto], name: str, array: Array, model: str) -> Array:
    """The array in the dtype and with the axes of the input. UnknownNameError or SettingError."""
    if name not in inputs:
        raise _unknown_input(inputs, name, model)
    tensor = inputs[name]
    prefix = f"{model}: the input {name!r} ({_type_of(tensor)})"
    dtype, dims = _dtype(tensor), declared_dims(tensor)
    if dtype is None:
        raise SettingError(f"{prefix} cannot be given a value; only inputs of numbers can")
    if array.size > MAX_INPUT_SIZE:
        raise SettingError(f"{prefix}: {array.size} numbers are more than {MAX_INPUT_SIZE}")
    if dims is not None and array.ndim < len(dims):
        array = array.reshape((1,) * (len(dims) - array.ndim) + array.shape)
    if dims is not None and not _sizes_fit(array.shape, dims):
        raise SettingError(f"{prefix}: got an array of shape {array.shape}")
    try:
        return convert(array, dtype)
    except ValueError as error:
        raise SettingError(f"{prefix}: {error}") from error


def _unknown_input(
    inputs: Mapping[str, onnx.ValueInfoProto], name: str, model: str
) -> UnknownNameError:
    close = unknown("input", name, inputs).close
    listed = [f"{known} ({_type_of(tensor)})" for known, tensor in inputs.items()]
    more = f" and {len(listed) - LISTED} more" if len(listed) > LISTED else ""
    advice = f"; did you mean {' or '.join(close)}?" if close else ""
    return UnknownNameError(
        f"{model}: no input {name!r} among {', '.join(listed[:LISTED])}{more}{advice}",
        name,
        inputs,
        close,
    )


def _sizes_fit(shape: tuple[int, ...], dims: tuple[int | str | None, ...]) -> bool:
    """Whether an array has the declared rank, and the declared sizes that are numbers."""
    return len(shape) == len(dims) and all(
        size == dim for size, dim in zip(shape, dims, strict=True) if isinstance(dim, int)
    )


def _image_among(
    proto: onnx.ModelProto, inputs: Mapping[str, onnx.ValueInfoProto], arrays: Mapping[str, Array]
) -> str | None:
    """The bound input that must be the image, because no other one could take it; None if there is none."""
    defaults = {tensor.name for tensor in proto.graph.initializer}
    images = [name for name, tensor in inputs.items() if _may_be_image(tensor)]
    images = [name for name in images if name not in defaults] or images
    return images[0] if images and all(name in arrays for name in images) else None


def _may_be_image(tensor: onnx.ValueInfoProto) -> bool:
    dims = declared_dims(tensor)
    return _dtype(tensor) is not None and (dims is None or len(dims) == IMAGE_RANK)


def _make_constants(
    graph: onnx.GraphProto,
    inputs: Mapping[str, onnx.ValueInfoProto],
    values: Mapping[str, Array],
) -> None:
    """Replace inputs and their defaults by constants, in place.

    Named sizes of the constants are known wherever the other inputs have them, except as their batch: one row
    may serve all images. Elsewhere these names are removed; the sizes are inferred again.
    """
    sizes = {
        dim: size
        for name, array in values.items()
        for dim, size in zip(declared_dims(inputs[name]) or (), array.shape, strict=False)
        if isinstance(dim, str) and dim.isidentifier()
    }
    remaining = [tensor for tensor in graph.input if tensor.name not in values]
    del graph.input[:]
    for shape in declared_shapes(nested_scopes(graph)):
        for dim in shape.dim:
            if dim.dim_param in sizes:
                dim.ClearField("dim_param")
    graph.input.extend(remaining)
    for tensor in graph.input:
        _fix_sizes(tensor.type.tensor_type.shape, sizes)
    constants = [tensor for tensor in graph.initializer if tensor.name not in values]
    sparse = [tensor for tensor in graph.sparse_initializer if tensor.values.name not in values]
    del graph.initializer[:], graph.sparse_initializer[:]
    graph.initializer.extend(constants)
    graph.sparse_initializer.extend(sparse)
    graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in values.items())


def _fix_sizes(shape: onnx.TensorShapeProto, sizes: Mapping[str, int]) -> None:
    """Replace the names of sizes by known numbers, in place, except that of the first axis."""
    names = [dim.dim_param for dim in shape.dim]
    for dim in shape.dim[1:]:
        if names.count(dim.dim_param) == 1 and sizes.get(dim.dim_param):
            dim.dim_value = sizes[dim.dim_param]


def _read_names(graph: onnx.GraphProto) -> set[str]:
    """Everything that a node reads or the graph returns."""
    names = {tensor.name for tensor in graph.output}
    for scope in nested_scopes(graph):
        names.update(*(node.input for node in scope.node))
    return names


def _dtype(tensor: onnx.ValueInfoProto) -> np.dtype[Any] | None:
    """The dtype of an input of numbers, None for text, sequences, and unknown types."""
    if tensor.type.WhichOneof("value") != "tensor_type":
        return None
    try:
        dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.type.tensor_type.elem_type))
    except (KeyError, TypeError, ValueError):
        return None
    return None if dtype.hasobject else dtype


def _type_of(tensor: onnx.ValueInfoProto) -> str:
    kind = tensor.type.WhichOneof("value")
    if kind != "tensor_type":
        return (kind or "no type").removesuffix("_type")
    dtype = _dtype(tensor)
    is_text = tensor.type.tensor_type.elem_type == onnx.TensorProto.STRING
    return type_text("text" if is_text else dtype or "unknown type", declared_dims(tensor))
