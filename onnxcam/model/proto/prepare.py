"""Check and normalize a protocol buffer before a graph is made of it: the order of all steps."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TypeVar

import onnx
from google.protobuf.message import Error as ProtobufError
from onnx import checker, shape_inference

from onnxcam.errors import ModelError, first_line
from onnxcam.model.proto.check import check_constants, check_names, check_opset
from onnxcam.model.proto.declared_sizes import normalize_sizes
from onnxcam.model.proto.inference_limits import check_attributes, check_loops
from onnxcam.model.proto.inline_functions import check_functions, inline_functions
from onnxcam.model.proto.normalize import (
    make_dense,
    remove_defaults,
    sort_nodes,
    use_default_domain,
)
from onnxcam.model.proto.onnx_inference import infer_shapes
from onnxcam.model.proto.walk import all_scopes
from onnxcam.passes.input_rank import check_model, give_ranks
from onnxcam.passes.ort import normalize_ort_domains

INVALID_MODEL_ERRORS = (checker.ValidationError, shape_inference.InferenceError, ProtobufError)
T = TypeVar("T")


def prepare_proto(
    proto: onnx.ModelProto, name: str, constants: Collection[str] = ()
) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    """The model with its functions inlined and its shapes inferred, and notices for users. Changes `proto`.

    `constants` names inputs that represent weights. ModelError if it is not a valid model.
    """
    try:
        scopes = list(all_scopes(proto))
        check_names(proto, scopes)
        use_default_domain(proto, scopes)
        check_opset(proto, name)
        sort_nodes(proto, name)
        notices = (*normalize_ort_domains(proto), *remove_defaults(proto))
        scopes = list(all_scopes(proto))  # sorting may have replaced nodes and their inner graphs
        normalize_sizes(proto, scopes, name, constants)
        give_ranks(proto.graph)
        check_functions(proto, name)
        check_constants(scopes)
        _call_onnx(check_model, proto)
        make_dense(scopes, name)
        if proto.functions:
            proto = _call_onnx(inline_functions, proto)
            scopes = list(all_scopes(proto))
        check_attributes(scopes, name)
        check_loops(scopes, name)
        inferred = _call_onnx(infer_shapes, proto)
    except INVALID_MODEL_ERRORS as error:
        raise ModelError(
            f"{name}: not a valid ONNX model ({first_line(error)}); export it again"
        ) from error
    if not inferred.graph.input or not inferred.graph.output:
        raise ModelError(f"{name}: the model has no input or no output; nothing can be explained")
    return inferred, notices


def _call_onnx(function: Callable[[onnx.ModelProto], T], proto: onnx.ModelProto) -> T:
    """Call a function of onnx, and raise its ValueErrors and RuntimeErrors as ValidationError: those of our own
    functions are bugs in onnxcam, and stay what they are.
    """
    try:
        return function(proto)
    except (ValueError, RuntimeError) as error:
        raise checker.ValidationError(str(error)) from error
