"""Read a model from a path, bytes or a protocol buffer, and make it a checked and canonical `Model`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import onnx
import onnx_graphsurgeon as gs
from google.protobuf.message import EncodeError, Message

from onnxcam.arrays import Array
from onnxcam.bound_input import BoundInput
from onnxcam.digests import digest_bytes
from onnxcam.errors import ModelError, NeedsOpsetError, first_line
from onnxcam.graph.node_errors import reports_node
from onnxcam.graph.opset import upgrade_opset
from onnxcam.image.graph_evidence import without_evidence
from onnxcam.model.bind import bind_proto, require_rows_of_images
from onnxcam.model.external_data import (
    attach_weights,
    mmap_large_weights,
    read_external_data,
    use_embedded_data,
)
from onnxcam.model.image_evidence import image_evidence
from onnxcam.model.input_values import input_arrays
from onnxcam.model.model import Model
from onnxcam.model.proto.prepare import prepare_proto
from onnxcam.model.proto.read import parse_content, read_content
from onnxcam.passes.canonicalize import canonicalize
from onnxcam.passes.quantization.hoist_dequantize import hoist_dequantize
from onnxcam.passes.quantization.integer_ops import decompose_integer_ops
from onnxcam.passes.quantization.straight_through import attach_float_sources, is_quantized


@reports_node
def load(
    source: str | Path | bytes | onnx.ModelProto, inputs: Mapping[str, Any] | None = None
) -> Model:
    """Read, check and clean a model from a path (external data included), bytes, or a ModelProto. `inputs` are
    values for inputs other than the image, by name: arrays, which become constants of the model.

    Raises ModelError, with the reason and what to do, for anything that is not a valid model; SettingError or
    UnknownNameError for inputs that do not fit it.
    """
    arrays = input_arrays(inputs)
    if isinstance(source, (bytes, onnx.ModelProto)):
        content = source if isinstance(source, bytes) else _serialize(source)
        proto, name = parse_content(content, "the given bytes"), "model"
        bound, notices = bind_proto(proto, name, arrays)
        use_embedded_data(proto, name)
        model = model_from_proto(proto, name, digest_bytes(content), notices)
        return _with_inputs(model, bound)
    path = Path(source)
    content = read_content(path)
    proto = parse_content(content, str(path))
    bound, notices = bind_proto(proto, path.name, arrays)
    weights = mmap_large_weights(proto, path)
    read_external_data(proto, path)
    model = model_from_proto(proto, path.name, digest_bytes(content), notices, weights)
    return _with_inputs(model, bound)


@reports_node
def load_mapped(path: Path, proto: onnx.ModelProto) -> Model:
    """The model of a file whose protocol buffer was read already, and is changed. Large external weights are
    mapped rather than read, and there is no digest. Raises what `load` raises.
    """
    weights = mmap_large_weights(proto, path, limit=0)
    read_external_data(proto, path)
    return model_from_proto(proto, path.name, "", (), weights)


@reports_node
def bind_inputs(model: Model, inputs: Mapping[str, Any]) -> Model:
    """The same model with the values of some inputs as constants; see `load`."""
    arrays = input_arrays(inputs)
    if not arrays:
        return model
    proto, weights = model.proto_and_weights()
    bound, notices = bind_proto(proto, model.name, arrays, weights)
    notices = (*model.notices, *notices)
    rebuilt = model_from_proto(proto, model.name, model.digest, notices, weights)
    return _with_inputs(rebuilt, (*model.inputs, *bound))


def _with_inputs(model: Model, bound: tuple[BoundInput, ...]) -> Model:
    """The model with the records of its bound inputs. SettingError for rows of several images."""
    require_rows_of_images(model.graph, model.name, bound)
    return replace(model, inputs=bound)


@reports_node
def upgrade_model(model: Model, opset: int) -> Model:
    """The same model at a newer opset of the default domain."""
    proto, weights = model.proto_and_weights()
    upgraded = upgrade_opset(proto, opset)
    rebuilt = model_from_proto(upgraded, model.name, model.digest, model.notices, weights)
    return replace(rebuilt, inputs=model.inputs)


@reports_node
def model_from_proto(
    proto: onnx.ModelProto,
    name: str,
    digest: str,
    notices: tuple[str, ...] = (),
    weights: Mapping[str, Array] = MappingProxyType({}),
) -> Model:
    """Check and clean a protocol buffer, which is changed. `weights` are the values of those inputs that are
    constants (see `external_data`). ModelError if it is not a valid model.
    """
    proto, proto_notices = prepare_proto(proto, name, weights.keys())
    notices = (*notices, *proto_notices)
    try:
        graph = gs.import_onnx(proto)
    except Exception as error:
        raise ModelError(
            f"{name}: its graph cannot be read ({first_line(error)}); export it again"
        ) from error
    attach_weights(graph, weights)
    _clear_optional_types(graph)
    try:
        graph = canonicalize(graph)
        if is_quantized(graph):
            graph = hoist_dequantize(decompose_integer_ops(graph))
            graph = attach_float_sources(canonicalize(graph))
    except NeedsOpsetError as need:  # some operators are decomposed into newer ones
        upgraded = upgrade_opset(proto, need.opset)
        return model_from_proto(upgraded, name, digest, notices, weights)
    metadata = {_to_text(prop.key): _to_text(prop.value) for prop in proto.metadata_props}
    metadata = {**without_evidence(metadata), **image_evidence(graph)}
    notices = (*notices, *_drop_unread_inputs(graph))
    return Model(graph, name, digest, proto.ir_version, metadata, notices)


def _clear_optional_types(graph: gs.Graph) -> None:
    """Drop the types of optional tensors, in place: graphsurgeon cannot write them."""
    for scope in (graph, *graph.subgraphs(recursive=True)):
        for tensor in scope.tensors().values():
            if isinstance(tensor.dtype, Message) or getattr(tensor, "type", "") == "optional_type":
                tensor.dtype = None


def _drop_unread_inputs(graph: gs.Graph) -> tuple[str, ...]:
    """Remove inputs that nothing reads, in place, unless none would remain; returns notices."""
    outputs = {id(tensor) for tensor in graph.outputs}
    read = [tensor for tensor in graph.inputs if tensor.outputs or id(tensor) in outputs]
    unread = [tensor.name for tensor in graph.inputs if tensor not in read]
    if not read or not unread:
        return ()
    graph.inputs = read
    listed = ", ".join(map(repr, unread))
    subject = f"the input {listed} is" if len(unread) == 1 else f"the inputs {listed} are"
    return (f"{subject} ignored, because nothing reads {'it' if len(unread) == 1 else 'them'}",)


def _serialize(proto: onnx.ModelProto) -> bytes:
    try:
        return bytes(proto.SerializeToString())
    except (EncodeError, ValueError) as error:
        raise ModelError(
            f"the given model cannot be serialized ({first_line(error)}); pass the path of its file"
        ) from error


def _to_text(value: str | bytes) -> str:
    """Metadata as text. Protobuf returns bytes for what is not UTF-8: such characters are replaced."""
    return value if isinstance(value, str) else value.decode(errors="replace")
