"""A small convolutional classifier, written node by node, and images for it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

CLASSES = 5
SHAPES = {"w1": (4, 3, 3, 3), "w2": (8, 4, 3, 3), "w3": (8, CLASSES)}
LABELS = ("tabby cat", "hen", "bus", "cup", "oak")


def write_model(path: Path, *, stochastic: Sequence[str] = ()) -> Path:
    """Conv, Relu, Conv, Relu, mean, Gemm, Softmax. `stochastic` puts Bernoulli, which has no gradient rule,
    before the mean ("early") or behind it ("late").
    """
    nodes = [
        helper.make_node("Conv", ["image", "w1"], ["conv1"], "first", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["conv1"], ["relu1"], "second"),
        helper.make_node(
            "Conv", ["relu1", "w2"], ["conv2"], "third", pads=[1, 1, 1, 1], strides=[2, 2]
        ),
        helper.make_node("Relu", ["conv2"], ["relu2"], "fourth"),
    ]
    nodes += _bernoulli_nodes("relu2", "early", stochastic)
    nodes += [helper.make_node("GlobalAveragePool", [nodes[-1].output[0]], ["mean"])]
    nodes += _bernoulli_nodes("mean", "late", stochastic)
    nodes += [
        helper.make_node("Flatten", [nodes[-1].output[0]], ["flat"]),
        helper.make_node("Gemm", ["flat", "w3"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, 16, 16])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", CLASSES])],
        _weights(),
    )
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    return path


def _bernoulli_nodes(tensor: str, place: str, stochastic: Sequence[str]) -> list[onnx.NodeProto]:
    if place not in stochastic:
        return []
    return [
        helper.make_node("Sigmoid", [tensor], [f"{place}_share"]),
        helper.make_node("Bernoulli", [f"{place}_share"], [f"{place}_drawn"], f"{place}_draw"),
    ]


def _weights() -> list[onnx.TensorProto]:
    return [numpy_helper.from_array(weight(name), name) for name in SHAPES]


def weight(name: str) -> NDArray[np.float32]:
    draw = np.random.Generator(np.random.PCG64([3, list(SHAPES).index(name)]))
    return draw.standard_normal(SHAPES[name]).astype(np.float32)


def pixels(seed: int = 0) -> NDArray[np.uint8]:
    draw = np.random.Generator(np.random.PCG64(seed))
    return draw.integers(0, 256, (20, 24, 3), dtype=np.uint8)


def write_image(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels(seed)).save(path)
    return path


def size(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size
