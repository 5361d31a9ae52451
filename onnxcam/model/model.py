"""Reading, checking and writing models."""

from __future__ import annotations

import hashlib
import logging
import os
import stat
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from google.protobuf.message import DecodeError, EncodeError, Message
from onnx_graphsurgeon.logger import G_LOGGER

from onnxcam.arrays import Array
from onnxcam.atomic_write import atomic_write, remove
from onnxcam.errors import ModelError
from onnxcam.graph.node_errors import reports_node
from onnxcam.graph.opset import NeedsOpsetError, upgrade_opset
from onnxcam.model import external_data as external
from onnxcam.model.check import check_proto, first_line
from onnxcam.passes.canonicalize import canonicalize
from onnxcam.passes.quantization.hoist_dequantize import hoist_dequantize
from onnxcam.passes.quantization.integer_ops import decompose_integer_ops, opset_to_open
from onnxcam.passes.quantization.straight_through import (
    attach_float_sources,
    detach_float_sources,
    is_quantised,
)

LARGEST_FILE = (1 << 31) - 1  # bytes of a protocol buffer
TEXT = "OSU"  # the kinds of NumPy's strings

Content: TypeAlias = bytes  # a name that `Model.bytes` does not hide

G_LOGGER.severity = logging.ERROR  # graphsurgeon prints what we turn into errors of our own


@dataclass(frozen=True)
class Model:
    """A model that was checked and cleaned; nothing changes it, rewriting makes another.

    `digest` is the SHA-256 of the file it came from; `notices` are sentences that a user should see.
    """

    graph: gs.Graph
    name: str
    digest: str
    ir_version: int
    metadata: dict[str, str] = field(default_factory=dict)
    notices: tuple[str, ...] = ()

    @property
    def opset(self) -> int:
        """The version of the default operator domain."""
        return int(self.graph.opset)

    def copy(self) -> Model:
        """The same model with a graph of its own; weights are shared."""
        return replace(self, graph=self.graph.copy())

    def proto(self) -> onnx.ModelProto:
        """The model as a protocol buffer. ModelError above 2 GB."""
        proto, weights = self._written()
        if weights:
            raise ModelError(f"{self.name}: larger than 2 GB; only `save` and `parts` can write it")
        return proto

    @reports_node
    def _written(self) -> tuple[onnx.ModelProto, dict[str, Array]]:
        """The model, and the weights that do not fit into it: their place is among its inputs."""
        graph, weights = external.detach_large_weights(detach_float_sources(self.graph))
        _pack(graph)
        proto = gs.export_onnx(graph, do_type_check=False, ir_version=self.ir_version)
        proto.ir_version = self.ir_version
        proto.producer_name = "onnxcam"
        onnx.helper.set_model_props(proto, self.metadata)
        _forget_working_names(proto.graph, {d for t in self.graph.inputs for d in t.shape or ()})
        return proto, weights

    def bytes(self) -> bytes:
        """The model as the content of an .onnx file. ModelError above 2 GB."""
        return bytes(self.proto().SerializeToString())

    def parts(self, location: str = "weights") -> tuple[Content, dict[str, Array]]:
        """The content of an .onnx file, and by name the weights that it says to lie in the file `location`:
        none up to 2 GB, above it those of 64 KiB or more.
        """
        proto, weights = self._written()
        external.reference_external_data(proto, weights, location)
        return bytes(proto.SerializeToString()), weights

    def save(self, path: str | Path) -> tuple[Path, ...]:
        """Write the model as an .onnx file, above 2 GB with its weights in a file `<path>.data` beside it,
        completely or not at all; returns what was written. OutputError if that fails, ModelError for a model
        that ONNX Runtime does not open.
        """
        from onnxcam.runtime.session import refusal

        path = Path(path)
        beside = path.with_name(f"{path.name}.data")
        content, weights = self.parts(beside.name)
        if reason := refusal(content, weights):
            raise ModelError(
                f"{path}: not written, because ONNX Runtime does not open it ({reason}); if it opens "
                f"{self.name}, please report this with the model"
            )
        with ExitStack() as stack:
            stack.enter_context(atomic_write(path)).write_bytes(content)
            if weights:
                external.write(stack.enter_context(atomic_write(beside)), weights)
                # an interruption must not leave an older model next to new weights
                remove(path)
        return (path, beside) if weights else (path,)

    @reports_node
    def at_opset(self, opset: int) -> Model:
        """The same model at a newer opset of the default domain."""
        proto, weights = self._written()
        return from_proto(
            upgrade_opset(proto, opset), self.name, self.digest, self.notices, weights
        )


@reports_node
def load(source: str | Path | bytes | onnx.ModelProto) -> Model:
    """Read, check and clean a model from a path (external data included), bytes, or a ModelProto.

    ModelError, which says what is wrong and what to do, for anything that is not a valid model.
    """
    if isinstance(source, (bytes, onnx.ModelProto)):
        content = source if isinstance(source, bytes) else _serialized(source)
        proto, name = _parsed(content, "the given bytes"), "model"
        external.use_embedded(proto, name)
        return from_proto(proto, name, _digest(content))
    path = Path(source)
    content = _content(path)
    proto = _parsed(content, str(path))
    weights = external.mmap_large_weights(proto, path)
    external.read(proto, path)
    return from_proto(proto, path.name, _digest(content), weights=weights)


@reports_node
def from_proto(
    proto: onnx.ModelProto,
    name: str,
    digest: str,
    notices: tuple[str, ...] = (),
    weights: Mapping[str, Array] = MappingProxyType({}),
) -> Model:
    """Check and clean a protocol buffer, which is changed; `weights` are of the inputs that are constants
    (see `external`). ModelError if it is not a valid model.
    """
    proto, more_notices = check_proto(proto, name, weights.keys())
    notices = (*notices, *more_notices)
    try:
        graph = gs.import_onnx(proto)
    except Exception as fault:
        raise ModelError(f"{name}: its graph cannot be read ({first_line(fault)})") from fault
    external.attach_weights(graph, weights)
    _forget_optional_types(graph)
    try:
        graph = canonicalize(graph)
    except NeedsOpsetError as need:  # what a fused operator stands for
        return from_proto(upgrade_opset(proto, need.opset), name, digest, notices, weights)
    if is_quantised(graph):
        if (opset := opset_to_open(graph)) > graph.opset:
            return from_proto(upgrade_opset(proto, opset), name, digest, notices, weights)
        graph = attach_float_sources(canonicalize(hoist_dequantize(decompose_integer_ops(graph))))
    metadata = {_text(prop.key): _text(prop.value) for prop in proto.metadata_props}
    notices = (*notices, *_drop_unread_inputs(graph))
    return Model(graph, name, digest, proto.ir_version, metadata, notices)


def _forget_optional_types(graph: gs.Graph) -> None:
    """Drop the types of optional tensors, in place: graphsurgeon cannot write them."""
    for scope in (graph, *graph.subgraphs(recursive=True)):
        for tensor in scope.tensors().values():
            if isinstance(tensor.dtype, Message) or getattr(tensor, "type", "") == "optional_type":
                tensor.dtype = None


def _drop_unread_inputs(graph: gs.Graph) -> tuple[str, ...]:
    """Remove inputs that nothing reads, in place, if others are left; returns notices."""
    ends = {id(tensor) for tensor in graph.outputs}
    read = [tensor for tensor in graph.inputs if tensor.outputs or id(tensor) in ends]
    unread = [tensor.name for tensor in graph.inputs if tensor not in read]
    if not read or not unread:
        return ()
    graph.inputs = read
    return (f"the input {', '.join(map(repr, unread))} is left out, as nothing reads it",)


def _serialized(proto: onnx.ModelProto) -> bytes:
    try:
        return bytes(proto.SerializeToString())
    except (EncodeError, ValueError) as error:
        raise ModelError(
            f"the given model cannot be serialized ({first_line(error)}); give the path of its file"
        ) from error


def _text(value: str | bytes) -> str:
    """Text of the metadata; what is not UTF-8 in it, which protobuf gives as bytes, is replaced."""
    return value if isinstance(value, str) else value.decode(errors="replace")


def _content(path: Path) -> bytes:
    """The content of a file or a pipe, but not of a device, which may have no end."""
    try:
        _check_file(path, path.stat())
        return path.read_bytes()
    except (OSError, ValueError) as fault:  # ValueError: a path with a zero byte
        why = getattr(fault, "strerror", None) or fault
        raise ModelError(f"{path}: cannot be read ({why}); check the path") from fault


def _check_file(path: Path, status: os.stat_result) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise ModelError(f"{path}: a folder; give the .onnx file in it")
    if not (stat.S_ISREG(status.st_mode) or stat.S_ISFIFO(status.st_mode)):
        raise ModelError(f"{path}: a device or a socket; give an .onnx file")
    if status.st_size > LARGEST_FILE:
        raise ModelError(
            f"{path}: {status.st_size} bytes, more than the {LARGEST_FILE} that an .onnx file can have; "
            "export it with its weights as external data"
        )


def _parsed(content: bytes, name: str) -> onnx.ModelProto:
    try:
        proto = onnx.load_from_string(content)
    except (DecodeError, ValueError) as fault:
        if "alloc failed" in str(fault):
            raise ModelError(
                f"{name}: out of memory while its {len(content)} bytes were parsed; close other programs"
            ) from fault
        raise ModelError(
            f"{name}: not an ONNX model, or cut off ({len(content)} bytes read: {first_line(fault)}); "
            "copy or export the file again"
        ) from fault
    if not proto.HasField("graph") or not proto.graph.node:
        raise ModelError(
            f"{name}: an ONNX file without a graph ({len(content)} bytes); export it again"
        )
    return proto


def _pack(graph: gs.Graph) -> None:
    """Pack numbers smaller than a byte, and text, in place: graphsurgeon writes one number per byte, and no
    text.
    """
    for tensor in graph.tensors().values():
        if not isinstance(tensor, gs.Constant):
            continue
        if np.dtype(tensor.dtype).name in external.SUB_BYTE or np.dtype(tensor.dtype).kind in TEXT:
            packed = onnx.numpy_helper.from_array(tensor.values, tensor.name)
            tensor.values = gs.ir.tensor.LazyValues(packed)


def _forget_working_names(graph: onnx.GraphProto, known: set[Any]) -> None:
    """Take back the names that dimensions were given while the graph was read."""
    for tensor in (*graph.value_info, *graph.output):
        for dim in tensor.type.tensor_type.shape.dim:
            if dim.HasField("dim_param") and dim.dim_param not in known:
                dim.ClearField("value")


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
