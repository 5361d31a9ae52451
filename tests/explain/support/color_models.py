"""Models of colors: each color is a class, so that a wrong order of the channels turns them around."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

COLORS = ("red", "green", "blue")
REGIONS = (*COLORS, "road", "sky")  # classes of the segmenter, the last two never seen
SLOPE = 8.0


def color_model(kind: str, dtype: int = TensorProto.FLOAT, size: Any = 8) -> onnx.ModelProto:
    """Each color is a class, and its score is `SLOPE` times the mean of its channel: a classifier ("logits",
    "softmax"), a segmenter ("pixels"), or a detector of 4 boxes of an Ultralytics kind ("boxes").
    """
    cast = [helper.make_node("Cast", ["image"], ["floats"], to=TensorProto.FLOAT)]
    nodes, constants = cast, [numpy_helper.from_array(np.float32(SLOPE), "slope")]
    shapes = {"logits": ["N", 3], "softmax": ["N", 3], "pixels": ["N", 5, size, size],
              "boxes": [1, 7, 4]}  # fmt: skip
    if kind == "pixels":
        weights = np.eye(5, 3, dtype=np.float32)[:, :, None, None] * SLOPE
        constants.append(numpy_helper.from_array(weights, "w"))
        nodes = [*cast, helper.make_node("Conv", ["floats", "w"], ["pixels"])]
    elif kind == "boxes":
        boxes = [[2, 6, 2, 6], [2, 2, 6, 6], [4, 4, 4, 4], [4, 4, 4, 4]]
        constants += [
            numpy_helper.from_array(np.array([boxes], np.float32), "places"),
            numpy_helper.from_array(np.array([1, 3, 4], np.int64), "shape"),
        ]
        nodes = [
            *cast,
            helper.make_node("AveragePool", ["floats"], ["p"], kernel_shape=[4, 4], strides=[4, 4]),
            helper.make_node("Mul", ["p", "slope"], ["s"]),
            helper.make_node("Reshape", ["s", "shape"], ["flat"]),
            helper.make_node("Sigmoid", ["flat"], ["scores"]),
            helper.make_node("Concat", ["places", "scores"], ["boxes"], axis=1),
        ]
    else:
        nodes = [
            *cast,
            helper.make_node("GlobalAveragePool", ["floats"], ["p"]),
            helper.make_node("Flatten", ["p"], ["flat"]),
            helper.make_node("Mul", ["flat", "slope"], ["logits"]),
            *([helper.make_node("Softmax", ["logits"], ["softmax"])] * (kind == "softmax")),
        ]
    batch = 1 if kind == "boxes" else "N"
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("image", dtype, [batch, 3, size, size])],
        [helper.make_tensor_value_info(kind, TensorProto.FLOAT, shapes[kind])], constants,
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    task = {"task": "detect"} if kind == "boxes" else {}
    onnx.helper.set_model_props(model, {"names": str(dict(enumerate(labels_of(kind)))), **task})
    return model


def labels_of(kind: str) -> tuple[str, ...]:
    return REGIONS if kind == "pixels" else COLORS
