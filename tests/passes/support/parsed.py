"""Models from ONNX's text form, and their outputs by ONNX Runtime."""

from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper

from onnxcam.graph.operators import CONTRIB


def parse(text: str, opset: int = 17, **constants: Any) -> onnx.ModelProto:
    """A model with the graph `text`, and initializers of the names of `constants`."""
    head = f'<ir_version: 9, opset_import: ["": {opset}, "{CONTRIB}": 1]>'
    proto = onnx.parser.parse_model(f"{head} net {text}")
    for name, array in constants.items():
        proto.graph.initializer.append(numpy_helper.from_array(np.asarray(array), name))
    return proto


def run(proto: onnx.ModelProto, **feed: Any) -> list[Any]:
    """All outputs. ONNX Runtime executes the nodes as they are written: it fuses nothing."""
    options = onnxruntime.SessionOptions()
    level = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return list(session.run(None, feed))
