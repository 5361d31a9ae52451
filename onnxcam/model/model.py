"""A checked model in memory, and how it is written as an .onnx file."""

from __future__ import annotations

import logging
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from onnx_graphsurgeon.logger import G_LOGGER

from onnxcam.arrays import Array
from onnxcam.atomic_write import atomic_write, remove
from onnxcam.bound_input import BoundInput
from onnxcam.errors import ModelError
from onnxcam.graph.node_errors import reports_node
from onnxcam.image.graph_evidence import without_evidence
from onnxcam.model.external_data import (
    SUB_BYTE_BITS,
    detach_large_weights,
    reference_external_data,
    write_weights,
)
from onnxcam.passes.quantization.straight_through import detach_float_sources

STRING_KINDS = "OSU"  # NumPy's kinds of dtypes that hold text

Content: TypeAlias = bytes  # inside the class, `bytes` is the method

G_LOGGER.severity = logging.ERROR  # graphsurgeon prints what we turn into errors of our own


@dataclass(frozen=True)
class Model:
    """A model that was checked and cleaned when it was loaded. It never changes: rewriting returns a new one.

    `digest` is the SHA-256 of the file it came from; `notices` are sentences that a user should see; `inputs`
    are those of the file's inputs that were made constants. `metadata` is that of the file, and what the graph
    reveals about its images (see `image_evidence`).
    """

    graph: gs.Graph
    name: str
    digest: str
    ir_version: int
    metadata: dict[str, str] = field(default_factory=dict)
    notices: tuple[str, ...] = ()
    inputs: tuple[BoundInput, ...] = ()

    def __repr__(self) -> str:
        return f"Model({self.name!r}, opset={self.opset}, nodes={len(self.graph.nodes)})"

    @property
    def opset(self) -> int:
        """The version of the default operator domain."""
        return int(self.graph.opset)

    def copy(self) -> Model:
        """The same model with a copy of the graph; weights are shared."""
        return replace(self, graph=self.graph.copy())

    def proto(self) -> onnx.ModelProto:
        """The model as a protocol buffer. ModelError above 2 GB."""
        proto, weights = self.proto_and_weights()
        if weights:
            raise ModelError(
                f"{self.name}: larger than 2 GB; only `save` and `content_and_weights` can write it"
            )
        return proto

    @reports_node
    def proto_and_weights(self) -> tuple[onnx.ModelProto, dict[str, Array]]:
        """The model as a protocol buffer, and by name the weights that do not fit into it: these are declared
        among its inputs.
        """
        graph, weights = detach_large_weights(detach_float_sources(self.graph))
        _pack_constants(graph)
        proto = gs.export_onnx(graph, do_type_check=False, ir_version=self.ir_version)
        proto.ir_version = self.ir_version
        proto.producer_name = "onnxcam"
        onnx.helper.set_model_props(proto, without_evidence(self.metadata))
        _clear_inferred_names(proto.graph, {d for t in self.graph.inputs for d in t.shape or ()})
        return proto, weights

    def bytes(self) -> bytes:
        """The model as the content of an .onnx file. ModelError above 2 GB."""
        return bytes(self.proto().SerializeToString())

    def content_and_weights(self, location: str = "weights") -> tuple[Content, dict[str, Array]]:
        """The content of an .onnx file, and by name the weights that it expects in the file `location`: none up
        to 2 GB; above that, the weights of 64 KiB or more.
        """
        proto, weights = self.proto_and_weights()
        reference_external_data(proto, weights, location)
        return bytes(proto.SerializeToString()), weights

    def save(self, path: str | Path) -> tuple[Path, ...]:
        """Write the model as an .onnx file, above 2 GB with its weights in `<path>.data` next to it, all or
        nothing. Returns the paths that were written.

        Raises OutputError if writing fails, ModelError if ONNX Runtime cannot open the model.
        """
        from onnxcam.runtime.session import refusal

        path = Path(path)
        weights_path = path.with_name(f"{path.name}.data")
        content, weights = self.content_and_weights(weights_path.name)
        if reason := refusal(content, weights):
            raise ModelError(
                f"{path}: not written, because ONNX Runtime cannot open it ({reason}); if it opens "
                f"{self.name}, please report this with the model"
            )
        with ExitStack() as stack:
            stack.enter_context(atomic_write(path)).write_bytes(content)
            if weights:
                write_weights(stack.enter_context(atomic_write(weights_path)), weights)
                # an interruption must not leave an older model next to new weights
                remove(path)
        return (path, weights_path) if weights else (path,)


def _pack_constants(graph: gs.Graph) -> None:
    """Pack numbers smaller than a byte, and text, in place, in inner graphs, too: graphsurgeon writes one
    number per byte, and no text.
    """
    scopes = (graph, *graph.subgraphs(recursive=True))
    constants = [
        t for scope in scopes for t in scope.tensors().values() if isinstance(t, gs.Constant)
    ]
    for tensor in constants:
        dtype = np.dtype(tensor.dtype)
        if dtype.name in SUB_BYTE_BITS or dtype.kind in STRING_KINDS:
            packed = onnx.numpy_helper.from_array(tensor.values, tensor.name)
            tensor.values = gs.ir.tensor.LazyValues(packed)


def _clear_inferred_names(graph: onnx.GraphProto, input_names: set[Any]) -> None:
    """Remove the names of dimensions that only shape inference gave, in place."""
    for tensor in (*graph.value_info, *graph.output):
        for dim in tensor.type.tensor_type.shape.dim:
            if dim.HasField("dim_param") and dim.dim_param not in input_names:
                dim.ClearField("value")
