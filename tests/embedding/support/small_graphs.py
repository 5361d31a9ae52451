"""Graphs that a test writes by itself, and what they return."""

from collections.abc import Callable, Mapping
from typing import Any

import onnx
import onnx_graphsurgeon as gs
import onnxruntime as ort

from onnxcam.arrays import Array
from onnxcam.graph.tracing import Builder, Value
from onnxcam.runtime.session import QUIET

OPSET = 17


def write_graph(
    write: Callable[[Builder], Mapping[str, Value]], opset: int = OPSET
) -> onnx.ModelProto:
    """A model whose outputs are what `write` returns, by name."""
    graph = gs.Graph(opset=opset, import_domains=[onnx.helper.make_opsetid("", opset)])
    build = Builder(graph)
    for name, value in write(build).items():
        build.output(value, name)
    model = gs.export_onnx(graph)
    model.ir_version = 8
    onnx.checker.check_model(model)
    return model


def open_graph(model: onnx.ModelProto) -> Callable[..., list[Any]]:
    """A function that takes the inputs by name, and returns the outputs in order."""
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, QUIET
    session = ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )

    def run(**inputs: Array) -> list[Any]:
        return list(session.run(None, inputs))

    return run
