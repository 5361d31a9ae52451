"""Check and normalize a protocol buffer before a graph is made of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, TypeVar

import onnx
from google.protobuf.message import Error as ProtobufError
from onnx import AttributeProto, TensorProto, checker, numpy_helper, shape_inference
from onnx.external_data_helper import uses_external_data

from onnxcam.errors import ModelError
from onnxcam.model.proto.declared_sizes import declared_shapes, settle_sizes
from onnxcam.model.proto.inference_limits import check_attributes, check_loops
from onnxcam.model.proto.inline_functions import check_calls, inline_functions
from onnxcam.model.proto.normalize import (
    make_dense,
    settle_defaults,
    sort_nodes,
    use_default_domain,
)
from onnxcam.model.proto.onnx_inference import infer_shapes
from onnxcam.model.proto.walk import Scope, all_scopes, tensors
from onnxcam.passes.input_rank import check_model, give_ranks
from onnxcam.passes.ort import normalize_ort_domains

WIDTHS = {  # bytes of a number
    TensorProto.INT8: 1,
    TensorProto.UINT8: 1,
    TensorProto.FLOAT16: 2,
    TensorProto.FLOAT: 4,
    TensorProto.INT32: 4,
    TensorProto.INT64: 8,
    TensorProto.DOUBLE: 8,
}
NUMBERS = {AttributeProto.INT, AttributeProto.FLOAT, AttributeProto.INTS, AttributeProto.FLOATS}
OLDEST = 7  # the oldest opset that ONNX Runtime promises to run
INVALID = (checker.ValidationError, shape_inference.InferenceError, ProtobufError)
T = TypeVar("T")


def check_proto(
    proto: onnx.ModelProto, name: str, constants: Collection[str] = ()
) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    """The model with its functions inlined and its shapes inferred, and notices for users. Changes `proto`.

    `constants` names inputs that stand for weights. ModelError if it is not a valid model.
    """
    try:
        scopes = list(all_scopes(proto))
        _check_names(proto, scopes)
        use_default_domain(proto, scopes)
        _check_opset(proto, name)
        sort_nodes(proto, name)
        notices = (*normalize_ort_domains(proto), *settle_defaults(proto))
        scopes = list(all_scopes(proto))  # sorting nodes made others of them
        settle_sizes(proto, scopes, name, constants)
        give_ranks(proto.graph)
        check_calls(proto, name)
        _check_constants(scopes)
        _call_onnx(check_model, proto)
        make_dense(scopes, name)
        if proto.functions:
            proto = _call_onnx(inline_functions, proto)
            scopes = list(all_scopes(proto))
        check_attributes(scopes, name)
        check_loops(scopes, name)
        inferred = _call_onnx(infer_shapes, proto)
    except INVALID as error:
        raise ModelError(
            f"{name}: not a valid ONNX model ({first_line(error)}); export it again"
        ) from error
    if not inferred.graph.input or not inferred.graph.output:
        raise ModelError(f"{name}: the model has no input or no output; nothing can be explained")
    return inferred, notices


def _call_onnx(function: Callable[[onnx.ModelProto], T], proto: onnx.ModelProto) -> T:
    """What the function returns. ValidationError for the ValueErrors and RuntimeErrors that onnx raises, too;
    those of our own functions are faults of onnxcam.
    """
    try:
        return function(proto)
    except (ValueError, RuntimeError) as error:
        raise checker.ValidationError(str(error)) from error


def first_line(error: BaseException) -> str:
    """The first line of an error's message that is not blank."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def _check_opset(proto: onnx.ModelProto, name: str) -> None:
    imports = proto.opset_import
    version = next((imported.version for imported in imports if not imported.domain), None)
    if version is None or version < OLDEST:
        was = "no opset of the default domain" if version is None else f"opset {version}"
        raise ModelError(f"{name}: {was}; opset {OLDEST} or newer is needed: export it again")


def _check_names(proto: onnx.ModelProto, scopes: Sequence[Scope]) -> None:
    """ValidationError for a name that is not text: it is read as bytes, and could not be written again."""
    names: list[Any] = [imported.domain for imported in proto.opset_import]
    names += [tensor.name for tensor in tensors(scopes)]
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
    if broken := [name for name in names if not isinstance(name, str)]:
        raise checker.ValidationError(f"the name {broken[0]!r} is not UTF-8 text")


def _check_texts(node: onnx.NodeProto) -> None:
    """ValidationError for a string attribute of a standard operator that is not text."""
    for attribute in node.attribute:
        if attribute.type in NUMBERS:
            continue
        for text in (attribute.s, *attribute.strings):
            try:
                text.decode()
            except UnicodeDecodeError as error:
                raise checker.ValidationError(
                    f"{node.op_type} {node.name!r}: {attribute.name} {text[:40]!r} is not UTF-8 text"
                ) from error


def _check_constants(scopes: Iterable[Scope]) -> None:
    """ValidationError for a constant whose content does not fit its shape, which ONNX's checker lets pass."""
    for tensor in tensors(scopes):
        if _has_content(tensor):
            continue
        try:
            numpy_helper.to_array(tensor)
        except Exception as error:
            raise checker.ValidationError(
                f"the constant {tensor.name!r}: {first_line(error)}"
            ) from error


def _has_content(tensor: onnx.TensorProto) -> bool:
    """Whether a constant of a usual type has as many bytes as its shape needs."""
    width = WIDTHS.get(tensor.data_type)
    if width is None or not tensor.HasField("raw_data") or tensor.HasField("segment"):
        return False
    fits = min(tensor.dims, default=0) >= 0 and not uses_external_data(tensor)
    return fits and len(tensor.raw_data) == width * math.prod(tensor.dims)
