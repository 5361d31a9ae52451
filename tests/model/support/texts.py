"""Small models from their text in ONNX's own syntax."""

import numpy as np
import onnx
from onnx import numpy_helper

from onnxcam.model.load import load
from onnxcam.model.model import Model


def load_text(text: str, opset: int = 17, /, **weights: tuple[int, ...]) -> Model:
    """Load a graph from its text, with weights of zeros in these shapes."""
    proto = onnx.parser.parse_model(f'<ir_version: 9, opset_import: ["": {opset}]> net {text}')
    for name, shape in weights.items():
        zeros = np.zeros(shape, np.float32)
        proto.graph.initializer.append(numpy_helper.from_array(zeros, name))
    return load(proto)
