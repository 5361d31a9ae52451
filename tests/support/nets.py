"""Small models with a NumPy twin: the same network, computed in float64 without ONNX Runtime.

All are conv-relu-conv-relu and a head. `features` returns the values of the second relu, `logits` those of
the head, `slope` the gradient of a logit at the features.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
from numpy.lib.stride_tricks import sliding_window_view
from onnx import numpy_helper

from onnxcam.arrays import Floats

CLASSES, CHANNELS, WIDTH = 5, 6, 8

BODY = """
    c1 = Conv<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>({x}, w1, b1)
    early = Relu(c1)
    c2 = Conv<kernel_shape = [3, 3], pads = [1, 1, 1, 1], strides = [2, 2]>(early, w2, b2)
    features = Relu(c2)
"""
POOL = """
    pooled = GlobalAveragePool(features)
    flat = Flatten(pooled)
    logits = Gemm<transB = 1>(flat, v, d)
"""
MLP = """
    flat = {flatten}
    hidden = Gemm<transB = 1>(flat, u, e)
    active = Relu(hidden)
    logits = Gemm<transB = 1>(active, v, d)
"""
SOFTMAX = "    probabilities = Softmax<axis = -1>(logits)"


def _weights(colors: int) -> dict[str, Floats]:
    draw = np.random.default_rng(7)
    shapes: dict[str, tuple[int, ...]] = {
        "w1": (4, colors, 3, 3),
        "b1": (4,),
        "w2": (CHANNELS, 4, 3, 3),
        "b2": (CHANNELS,),
        "u": (WIDTH, CHANNELS * 16),
        "e": (WIDTH,),
        "v": (CLASSES, WIDTH),
        "d": (CLASSES,),
    }
    return {
        name: draw.normal(0, 1 / np.sqrt(np.prod(shape[1:])), shape).astype(np.float32)
        for name, shape in shapes.items()
    }


@dataclass(frozen=True)
class Net:
    """`shape` is the input's as ONNX text; `colors` its channels."""

    head: str = POOL + SOFTMAX
    shape: str = "N, 3, 8, 8"
    x: str = "x"
    lead: str = ""
    outputs: str = "float[N, 5] probabilities"
    flatten: str = "Flatten(features)"
    colors: int = 3

    @property
    def is_pooled(self) -> bool:
        return "GlobalAveragePool" in self.head

    @property
    def weights(self) -> dict[str, Floats]:
        weights = _weights(self.colors)
        if self.is_pooled:
            weights["v"] = weights["v"][:, :CHANNELS]
        return weights

    def with_batch(self, batch: str) -> Net:
        return replace(
            self,
            shape=self.shape.replace("1, ", f"{batch}, ", 1),
            outputs=self.outputs.replace("1, ", f"{batch}, ", 1),
        )

    def proto(self, opset: int = 17) -> onnx.ModelProto:
        text = f"""<ir_version: 9, opset_import: ["": {opset}]>
            net (float[{self.shape}] x) => ({self.outputs}) {{
            {self.lead}{BODY.format(x=self.x)}{self.head.format(flatten=self.flatten)} }}"""
        proto = onnx.parser.parse_model(text)
        used = {name for node in proto.graph.node for name in node.input}
        for name, array in self.weights.items():
            if name in used:
                proto.graph.initializer.append(numpy_helper.from_array(array, name))
        return proto

    def content(self) -> bytes:
        return bytes(self.proto().SerializeToString())

    # The twin

    def features(self, x: Floats) -> Floats:
        w = self.weights
        early = np.maximum(_conv(x.astype(np.float64), w["w1"], w["b1"], 1), 0)
        return np.maximum(_conv(early, w["w2"], w["b2"], 2), 0)

    def logits(self, features: Floats) -> Floats:
        w = self.weights
        if self.is_pooled:
            return features.mean(axis=(2, 3)) @ w["v"].T + w["d"]
        hidden = features.reshape(len(features), -1) @ w["u"].T + w["e"]
        return np.maximum(hidden, 0) @ w["v"].T + w["d"]

    def slope(self, features: Floats, weights: Floats) -> Floats:
        """The gradient of logits @ weights at the features; weights (classes,) or (N, classes)."""
        w = self.weights
        if self.is_pooled:
            _, _, height, width = features.shape
            row = (np.atleast_2d(weights) @ w["v"]) / (height * width)
            return np.broadcast_to(row[:, :, None, None], features.shape).copy()
        hidden = features.reshape(len(features), -1) @ w["u"].T + w["e"]
        back = ((weights @ w["v"]) * (hidden > 0)) @ w["u"]
        return back.reshape(features.shape)


def _conv(x: Floats, w: Floats, b: Floats, stride: int) -> Floats:
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = sliding_window_view(padded, (3, 3), axis=(2, 3))[:, :, ::stride, ::stride]
    output: Floats = np.einsum("nchwyx,kcyx->nkhw", windows, w.astype(np.float64))
    return output + b[None, :, None, None]


POOLED = Net()
DEEP = Net(head=MLP + SOFTMAX)
NHWC = Net(
    head=MLP + SOFTMAX,
    shape="N, 8, 8, 3",
    x="transposed",
    lead="    transposed = Transpose<perm = [0, 3, 1, 2]>(x)",
)
FIXED = Net(
    head="    target = Constant<value_ints = [1, 96]>()" + MLP + SOFTMAX,
    shape="1, 3, 8, 8",
    outputs="float[1, 5] probabilities",
    flatten="Reshape(features, target)",
)
MIXING = Net(
    head=MLP
    + """
    total = ReduceSum<keepdims = 1>(logits)
    level = Abs(total)
    scores = Div(logits, level)""",
    shape="1, 3, 8, 8",
    outputs="float[1, 5] scores",
)
SKIP = Net(  # the score reads `side` besides `features`
    head="    side = AveragePool<kernel_shape = [2, 2], strides = [2, 2]>(early)\n"
    "    joined = Concat<axis = 1>(features, side)\n    pooled = GlobalAveragePool(joined)\n"
    "    scores = Flatten(pooled)",
    outputs="float[N, 10] scores",
)
ANY_SIZE = Net(shape="N, 3, H, W")
GREY = Net(head=MLP + SOFTMAX, shape="N, 1, 8, 8", colors=1)
TWO_OUTPUTS = Net(
    head=MLP + SOFTMAX + "\n    boxes = Concat<axis = 1>(features, features)",
    outputs="float[N, 12, 4, 4] boxes, float[N, 5] probabilities",
)


def random_images(count: int, shape: tuple[int, ...] = (3, 8, 8), seed: int = 0) -> Any:
    """(count, *shape) float32, as a model takes them."""
    return np.random.default_rng(seed).normal(size=(count, *shape)).astype(np.float32)
