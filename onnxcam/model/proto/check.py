"""Check what ONNX's own checker accepts although no runtime can read it: names, text, contents, old opsets."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import onnx
from onnx import AttributeProto, TensorProto, checker, numpy_helper
from onnx.external_data_helper import uses_external_data

from onnxcam.errors import ModelError, first_line
from onnxcam.model.proto.declared_sizes import declared_shapes
from onnxcam.model.proto.walk import Scope, constant_tensors

ITEM_BYTES = {
    TensorProto.INT8: 1,
    TensorProto.UINT8: 1,
    TensorProto.FLOAT16: 2,
    TensorProto.FLOAT: 4,
    TensorProto.INT32: 4,
    TensorProto.INT64: 8,
    TensorProto.DOUBLE: 8,
}
NUMERIC = {AttributeProto.INT, AttributeProto.FLOAT, AttributeProto.INTS, AttributeProto.FLOATS}
OLDEST_OPSET = 7  # the oldest one that ONNX Runtime promises to run


def check_opset(proto: onnx.ModelProto, name: str) -> None:
    """ModelError for an opset of the default domain that ONNX Runtime does not support."""
    imports = proto.opset_import
    version = next((imported.version for imported in imports if not imported.domain), None)
    if version is None or version < OLDEST_OPSET:
        problem = (
            "has no opset of the default domain" if version is None else f"has opset {version}"
        )
        raise ModelError(f"{name}: {problem}; export the model with opset {OLDEST_OPSET} or newer")


def check_names(proto: onnx.ModelProto, scopes: Sequence[Scope]) -> None:
    """ValidationError for a name that is not UTF-8: protobuf reads it as bytes, and cannot write it."""
    names: list[Any] = [imported.domain for imported in proto.opset_import]
    names += [tensor.name for tensor in constant_tensors(scopes)]
    names += [dim.dim_param for shape in declared_shapes(scopes) for dim in shape.dim]
    for scope in scopes:
        names.append(scope.name)
        declared: list[Any] = [*scope.value_info]
        if isinstance(scope, onnx.GraphProto):
            declared += [*scope.input, *scope.output]
        names += [tensor.name for tensor in declared]
        for node in scope.node:
            names += [node.name, node.op_type, node.domain, *node.input, *node.output]
            names += [attribute.name for attribute in node.attribute]
            if not node.domain:
                _check_texts(node)
    if invalid := [name for name in names if not isinstance(name, str)]:
        raise checker.ValidationError(f"the name {invalid[0]!r} is not UTF-8 text")


def _check_texts(node: onnx.NodeProto) -> None:
    """ValidationError for a string attribute of a standard operator that is not text."""
    for attribute in node.attribute:
        if attribute.type in NUMERIC:
            continue
        for text in (attribute.s, *attribute.strings):
            try:
                text.decode()
            except UnicodeDecodeError as error:
                raise checker.ValidationError(
                    f"{node.op_type} {node.name!r}: {attribute.name} {text[:40]!r} is not UTF-8 text"
                ) from error


def check_constants(scopes: Iterable[Scope]) -> None:
    """ValidationError for a constant whose content does not fit its shape; ONNX's checker accepts it."""
    for tensor in constant_tensors(scopes):
        if _has_content(tensor):
            continue
        try:
            numpy_helper.to_array(tensor)
        except Exception as error:
            raise checker.ValidationError(
                f"the constant {tensor.name!r}: {first_line(error)}"
            ) from error


def _has_content(tensor: onnx.TensorProto) -> bool:
    """Whether a constant of a common type has as many bytes as its shape needs."""
    width = ITEM_BYTES.get(tensor.data_type)
    if width is None or not tensor.HasField("raw_data") or tensor.HasField("segment"):
        return False
    is_here = min(tensor.dims, default=0) >= 0 and not uses_external_data(tensor)
    return is_here and len(tensor.raw_data) == width * math.prod(tensor.dims)
