"""Models of a few hundred bytes that compute with terabytes."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from onnxcam.errors import OnnxcamError

HUGE = 1 << 20
Step = tuple[str, list[str], dict[str, Any]]


def bomb(text: list[Step], **constants: Any) -> onnx.ModelProto:
    """A chain of operators, in which `y` is the output of the previous one; the last one adds to the score."""
    nodes = []
    for i, (operator, inputs, attributes) in enumerate(text):
        names = [f"y{i - 1}" if name == "y" else name for name in inputs]
        nodes.append(helper.make_node(operator, names, [f"y{i}"], **attributes))
    last = len(text) - 1
    nodes += [
        helper.make_node("ReduceMax", [f"y{last}"], ["top"], keepdims=0),
        helper.make_node("Cast", ["top"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("GlobalAveragePool", ["x"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["flat"]),
        helper.make_node("Add", ["flat", "float"], ["score"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 8, 8])],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["N", 3])],
        [numpy_helper.from_array(np.array(value), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


CUBE, ONE = [HUGE] * 3, np.ones((1, 1, 1), np.float32)
STRING = {"value": numpy_helper.from_array(np.array(["ab" * 50], object), "s")}
LENGTH: list[Step] = [("StringNormalizer", ["y"], {}), ("Shape", ["y"], {})]
CONSTANTS: dict[str, Callable[[], onnx.ModelProto]] = {
    "doubling Concat": lambda: bomb(
        [("Concat", ["y", "y"] if i else ["a", "a"], {"axis": 0}) for i in range(40)],
        a=np.ones(100),
    ),
    "doubling Add of strings": lambda: bomb(
        [("Constant", [], STRING), *[("StringConcat", ["y", "y"], {})] * 34, *LENGTH]
    ),
    "Tile": lambda: bomb([("Tile", ["a", "n"], {})], a=ONE, n=CUBE),
    "Tile twice": lambda: bomb(
        [("Tile", ["a", "n"], {}), ("Tile", ["y", "n"], {})], a=ONE, n=[1, 1, HUGE]
    ),
    "Expand": lambda: bomb([("Expand", ["a", "n"], {})], a=ONE, n=CUBE),
    "ConstantOfShape": lambda: bomb([("ConstantOfShape", ["n"], {})], n=CUBE),
    "Range": lambda: bomb([("Range", ["a", "b", "c"], {})], a=0, b=2**50, c=1),
    "Range of floats": lambda: bomb([("Range", ["a", "b", "c"], {})], a=0.0, b=1.0, c=1e-15),
    "Pad": lambda: bomb([("Pad", ["a", "n"], {})], a=ONE, n=[HUGE] * 6),
    "Pad by reflection": lambda: bomb([("Pad", ["a", "n"], {"mode": "wrap"})], a=ONE, n=[HUGE] * 6),
    "Resize": lambda: bomb([("Resize", ["a", "", "", "n"], {"mode": "cubic"})], a=ONE, n=CUBE),
    "EyeLike": lambda: bomb([("ConstantOfShape", ["n"], {}), ("EyeLike", ["y"], {})], n=CUBE[:2]),
    "OneHot": lambda: bomb(
        [("Range", ["a", "b", "c"], {}), ("OneHot", ["y", "b", "v"], {})],
        a=0,
        b=HUGE,
        c=1,
        v=[0.0, 1.0],
    ),
    "Gather": lambda: bomb(
        [
            ("Gather", ["a", "i"], {}),
            ("Gather", ["y", "i"], {}),
            ("Gather", ["y", "i"], {}),
            ("Gather", ["y", "i"], {}),
        ],
        a=np.ones(1000),
        i=np.zeros(1000, np.int64),
    ),
    "outer product": lambda: bomb(
        [("Range", ["a", "b", "c"], {}), ("Unsqueeze", ["y", "c"], {}), ("Mul", ["y", "y0"], {})],
        a=0,
        b=HUGE,
        c=1,
    ),
    "Einsum": lambda: bomb(
        [("Range", ["a", "b", "c"], {}), ("Einsum", ["y", "y"], {"equation": "i,j->ij"})],
        a=0.0,
        b=1e6,
        c=1.0,
    ),
    "random numbers": lambda: bomb([("RandomNormal", [], {"shape": CUBE})]),
    "DequantizeLinear": lambda: bomb(
        [
            ("ConstantOfShape", ["n"], {"value": numpy_helper.from_array(np.zeros(1, np.int8))}),
            ("DequantizeLinear", ["y", "s"], {}),
        ],
        n=CUBE,
        s=np.float32(1),
    ),
}
IMAGES: dict[str, Callable[[], onnx.ModelProto]] = {
    "Resize of the image": lambda: bomb(
        [("Resize", ["x", "", "", "n"], {"mode": "cubic"})], n=[1, 3, HUGE, HUGE]
    ),
    "Resize of one axis": lambda: bomb(
        [("Resize", ["x", "", "", "n"], {"mode": "cubic"})], n=[1, 3, HUGE, 8]
    ),
    "Resize and back": lambda: bomb(
        [
            ("Resize", ["x", "", "", "n"], {"mode": "linear"}),
            ("Resize", ["y", "", "", "m"], {"mode": "linear"}),
        ],
        n=[1, 3, HUGE, 8],
        m=[1, 3, 8, 8],
    ),
    "Upsample by scales": lambda: bomb(
        [("Resize", ["x", "", "s"], {"mode": "nearest"})], s=np.array([1, 1, 1e6, 1e6], np.float32)
    ),
    "Pad": lambda: bomb([("Pad", ["x", "n"], {})], n=[0, 0, HUGE, HUGE] * 2),
    "Pad by reflection": lambda: bomb(
        [("Pad", ["x", "n"], {"mode": "wrap"}), ("Relu", ["y"], {})], n=[0, 0, 0, HUGE] * 2
    ),
    "Tile": lambda: bomb([("Tile", ["x", "n"], {})], n=[1, 1, HUGE, HUGE]),
    "Tile of one axis": lambda: bomb(
        [("Tile", ["x", "n"], {}), ("Slice", ["y", "a", "b", "c"], {})],
        n=[1, 1, HUGE, 1],
        a=[0],
        b=[2],
        c=[2],
    ),
    "Expand": lambda: bomb(
        [("Flatten", ["x"], {}), ("Expand", ["y", "n"], {})], n=[HUGE, HUGE, 1, 192]
    ),
    "windows": lambda: bomb(
        [
            (
                "AveragePool",
                ["x"],
                {"kernel_shape": [HUGE] * 2, "pads": [HUGE // 2] * 4, "count_include_pad": 1},
            )
        ]
    ),
    "one long window": lambda: bomb(
        [("MaxPool", ["x"], {"kernel_shape": [2**28, 1], "pads": [2**27, 0] * 2})]
    ),
    "LpPool": lambda: bomb([("LpPool", ["x"], {"kernel_shape": [2**14] * 2, "pads": [2**13] * 4})]),
    "GridSample": lambda: bomb(
        [("ConstantOfShape", ["n"], {}), ("GridSample", ["x", "y"], {})], n=[1, HUGE, HUGE, 2]
    ),
    "RoiAlign": lambda: bomb(
        [
            (
                "RoiAlign",
                ["x", "r", "i"],
                {"output_height": HUGE, "output_width": HUGE, "sampling_ratio": 8},
            )
        ],
        r=np.zeros((1, 4), np.float32),
        i=[0],
    ),
    "LSTM": lambda: bomb(
        [
            ("Resize", ["x", "", "", "n"], {}),
            ("Reshape", ["y", "m"], {}),
            ("LSTM", ["y", "w", "r"], {"hidden_size": 2}),
        ],
        n=[1, 3, HUGE, 8],
        m=[3 * HUGE, -1, 8],
        w=np.ones((1, 8, 8), np.float32),
        r=np.ones((1, 8, 2), np.float32),
    ),
    "Col2Im": lambda: bomb(
        [("Reshape", ["x", "m"], {}), ("Col2Im", ["y", "n", "b"], {})],
        m=[-1, 192, 1],
        n=[HUGE, HUGE],
        b=[8, 8],
    ),
    "DepthToSpace": lambda: bomb(
        [("Tile", ["x", "n"], {}), ("DepthToSpace", ["y"], {"blocksize": 1024})], n=[1, HUGE, 1, 1]
    ),
    "sum of a long axis": lambda: bomb(
        [
            ("Tile", ["x", "n"], {}),
            ("Reshape", ["y", "m"], {}),
            ("CumSum", ["y", "a"], {}),
            ("Split", ["y"], {"axis": 1, "num_outputs": 1}),
        ],
        n=[1, 1, HUGE, 1],
        m=[0, -1],
        a=1,
    ),
}
BOMBS = {"constants": CONSTANTS, "images": IMAGES}


def outcome(proto: onnx.ModelProto) -> str:
    """What becomes of a model on its way to gradients of its input and to a layer."""
    from onnxcam.model.load import load
    from onnxcam.rewrite.gradient import gradient
    from onnxcam.rewrite.planner import layers

    try:
        model = load(proto)
        gradient(model, ["x"], "score").bytes()
        layers(model)
    except OnnxcamError as error:
        return type(error).__name__ if "no spatial layer" not in str(error) else "taken"
    return "taken"


def defuse(kind: str) -> None:
    """Print the outcome of every bomb of a kind."""
    print(json.dumps({name: outcome(build()) for name, build in BOMBS[kind].items()}))
