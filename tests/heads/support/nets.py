"""Small networks with any outputs."""

import numpy as np
import onnx
from onnx import numpy_helper, parser

NET = """<ir_version: 8, opset_import: ["": 17, "ai.onnx.ml": 3]>
    net (float[{batch}, 3, 8, 8] x) => ({outputs}) <int64[3] flat = {{0, 0, -1}}, int64[1] first = {{0}},
        int64[1] second = {{2}}, int64[2] rows = {{64, 6}}, int64[2] row = {{-1, 6}}, int64[1] one = {{-1}},
        int64[3] columns = {{0, -1, 1}}, int64[1] axis = {{1}}> {{
        a = Conv<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(x, w)
        features = Relu(a)
        {body}
    }}"""
SHAPES = {
    "w": (4, 3, 3, 3),
    "v": (6, 4, 1, 1),
    "u": (1, 4, 1, 1),
    "big": (90, 4, 1, 1),
    "m": (4, 6),
    "square": (6, 6),
    "n": (4, 1),
    "queries": (10, 4),
    "wide": (4, 90),
    "corners": (4, 4),
    "box": (4, 4, 1, 1),
    "pair": (2, 4, 1, 1),
    "ages": (90, 1),
    "gates": (1, 12, 4),
    "recurrence": (1, 12, 4),
}
POOL = "p = GlobalAveragePool(features) f = Flatten(p)"


def build(outputs: str, body: str, batch: str = "N", **metadata: str) -> onnx.ModelProto:
    """A convolution whose `features` the body turns into the outputs, with random weights."""
    proto = parser.parse_model(NET.format(outputs=outputs, body=body, batch=batch))
    used = {name for node in proto.graph.node for name in node.input}
    draw = np.random.default_rng(3)
    for name, shape in SHAPES.items():
        values = draw.normal(size=shape).astype(np.float32)
        if name in used:
            proto.graph.initializer.append(numpy_helper.from_array(values, name))
    onnx.helper.set_model_props(proto, metadata)
    return proto
