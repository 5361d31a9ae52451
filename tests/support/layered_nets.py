"""Networks as lists of layers, in float64 and as ONNX. The layers' values and derivatives are written by hand.

On the networks of `nets.py` several methods coincide. CURVED has no piece on which it is linear, and does not
pool, so that every method gives a map of its own. PIECEWISE has a normalization with a bias, rectifiers, and a
MaxPool. All methods of `LayeredNet` take one image (C, H, W).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple, Protocol

import numpy as np
import onnx
from numpy.lib.stride_tricks import sliding_window_view
from onnx import numpy_helper

from onnxcam.arrays import Floats

CLASSES, SIDE = 5, 8
EPSILON = 1e-3  # of the normalization


class Layer(Protocol):
    """One step of a network, on one image."""

    def forward(self, x: Floats) -> Floats: ...

    def vjp(self, x: Floats, g: Floats) -> Floats:
        """The gradient at the input x, of the gradient g at the output."""

    def onnx(self, x: str, y: str) -> tuple[str, dict[str, Floats]]:
        """The nodes that compute y from x, and their weights."""


@dataclass(frozen=True)
class Conv:
    """3 x 3, zeros around."""

    weight: Floats
    bias: Floats | None
    stride: int = 1

    def forward(self, x: Floats) -> Floats:
        windows = sliding_window_view(_padded(x), (3, 3), axis=(1, 2))
        values: Floats = np.einsum(
            "chwyx,kcyx->khw", windows[:, :: self.stride, :: self.stride], self.weight
        )
        return values if self.bias is None else values + self.bias[:, None, None]

    def vjp(self, x: Floats, g: Floats) -> Floats:
        padded = np.zeros_like(_padded(x))
        height, width = (size * self.stride for size in g.shape[1:])
        for i in range(3):
            for j in range(3):
                part = padded[:, i : i + height : self.stride, j : j + width : self.stride]
                part += np.einsum("khw,kc->chw", g, self.weight[:, :, i, j])
        return padded[:, 1:-1, 1:-1]

    def onnx(self, x: str, y: str) -> tuple[str, dict[str, Floats]]:
        weights = {f"{y}_weight": self.weight}
        if self.bias is not None:
            weights[f"{y}_bias"] = self.bias
        inputs = ", ".join([x, *weights])
        stride = f"strides = [{self.stride}, {self.stride}]"
        return f"{y} = Conv<pads = [1, 1, 1, 1], {stride}>({inputs})", weights


def _padded(x: Floats) -> Floats:
    return np.pad(x, ((0, 0), (1, 1), (1, 1)))


@dataclass(frozen=True)
class Norm:
    """BatchNormalization: gamma (x - mean) / sqrt(variance + epsilon) + beta, channel by channel."""

    gamma: Floats
    beta: Floats
    mean: Floats
    variance: Floats

    @property
    def scale(self) -> Floats:
        return self.gamma / np.sqrt(self.variance + EPSILON)

    @property
    def bias(self) -> Floats:
        """The value for x = 0."""
        return self.beta - self.scale * self.mean

    def forward(self, x: Floats) -> Floats:
        return x * self.scale[:, None, None] + self.bias[:, None, None]

    def vjp(self, x: Floats, g: Floats) -> Floats:
        return g * self.scale[:, None, None]

    def onnx(self, x: str, y: str) -> tuple[str, dict[str, Floats]]:
        arrays = (self.gamma, self.beta, self.mean, self.variance)
        weights = {f"{y}_norm{number}": array for number, array in enumerate(arrays)}
        inputs = ", ".join([x, *weights])
        return f"{y} = BatchNormalization<epsilon = {EPSILON}>({inputs})", weights


class Curve(NamedTuple):
    """A function of a number, its derivative, and the nodes that compute y from x."""

    value: Callable[[Floats], Floats]
    derivative: Callable[[Floats], Floats]
    onnx: str


def _sigmoid(x: Floats) -> Floats:
    return 1 / (1 + np.exp(-x))


CURVES = {
    "relu": Curve(lambda x: np.maximum(x, 0), lambda x: (x > 0) * 1.0, "{y} = Relu({x})"),
    "tanh": Curve(np.tanh, lambda x: 1 - np.tanh(x) ** 2, "{y} = Tanh({x})"),
    "softplus": Curve(lambda x: np.log1p(np.exp(x)), _sigmoid, "{y} = Softplus({x})"),
    "silu": Curve(
        lambda x: x * _sigmoid(x),
        lambda x: _sigmoid(x) * (1 + x * (1 - _sigmoid(x))),
        "{y}_gate = Sigmoid({x})\n{y} = Mul({x}, {y}_gate)",
    ),
}


@dataclass(frozen=True)
class Activation:
    """A curve of every number by itself."""

    curve: str

    def forward(self, x: Floats) -> Floats:
        return CURVES[self.curve].value(x)

    def vjp(self, x: Floats, g: Floats) -> Floats:
        return g * CURVES[self.curve].derivative(x)

    def onnx(self, x: str, y: str) -> tuple[str, dict[str, Floats]]:
        return CURVES[self.curve].onnx.format(x=x, y=y), {}


@dataclass(frozen=True)
class MaxPool:
    """2 x 2, stride 2. Of equal values, the first one counts."""

    def forward(self, x: Floats) -> Floats:
        return np.max(_windows(x), axis=-1)

    def vjp(self, x: Floats, g: Floats) -> Floats:
        gradient = np.zeros_like(x)
        for k, i, j in np.ndindex(g.shape):
            gradient[self.maximum(x, k, i, j)] += g[k, i, j]
        return gradient

    def maximum(self, x: Floats, k: int, i: int, j: int) -> tuple[int, int, int]:
        """Where the maximum of a window is."""
        row, column = divmod(int(np.argmax(_windows(x)[k, i, j])), 2)
        return k, 2 * i + row, 2 * j + column

    def onnx(self, x: str, y: str) -> tuple[str, dict[str, Floats]]:
        return f"{y} = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>({x})", {}


def _windows(x: Floats) -> Floats:
    """(C, H, W) -> (C, H/2, W/2, 4)."""
    channels, height, width = x.shape
    split = x.reshape(channels, height // 2, 2, width // 2, 2)
    return split.transpose(0, 1, 3, 2, 4).reshape(channels, height // 2, width // 2, 4)


@dataclass(frozen=True)
class Flatten:
    def forward(self, x: Floats) -> Floats:
        return x.ravel()

    def vjp(self, x: Floats, g: Floats) -> Floats:
        return g.reshape(x.shape)

    def onnx(self, x: str, y: str) -> tuple[str, dict[str, Floats]]:
        return f"{y} = Flatten({x})", {}


@dataclass(frozen=True)
class Linear:
    weight: Floats
    bias: Floats

    def forward(self, x: Floats) -> Floats:
        return self.weight @ x + self.bias

    def vjp(self, x: Floats, g: Floats) -> Floats:
        return self.weight.T @ g

    def onnx(self, x: str, y: str) -> tuple[str, dict[str, Floats]]:
        weights = {f"{y}_weight": self.weight, f"{y}_bias": self.bias}
        return f"{y} = Gemm<transB = 1>({x}, {y}_weight, {y}_bias)", weights


def one_hot(size: int, number: int) -> Floats:
    """1 at a number, else 0."""
    return np.eye(size)[number]


@dataclass(frozen=True)
class LayeredNet:
    """The layers by the names of their outputs, of which one is `features`, and the last one is `logits`."""

    layers: dict[str, Layer]

    def values(self, x: Floats) -> list[Floats]:
        """The image and the output of every layer."""
        image: Floats = x.astype(np.float64)
        return [*accumulate(self.layers.values(), lambda y, layer: layer.forward(y), initial=image)]

    @property
    def cut(self) -> int:
        """How many layers compute `features`."""
        return [*self.layers].index("features") + 1

    @property
    def trunk(self) -> LayeredNet:
        return LayeredNet(dict([*self.layers.items()][: self.cut]))

    @property
    def tail(self) -> LayeredNet:
        return LayeredNet(dict([*self.layers.items()][self.cut :]))

    def logits(self, x: Floats) -> Floats:
        return self.values(x)[-1]

    def gradients(self, x: Floats, target: int) -> list[Floats]:
        """Of the logit at the image and at the output of every layer."""
        values = self.values(x)
        gradients = [one_hot(len(values[-1]), target)]
        for layer, value in zip([*self.layers.values()][::-1], values[-2::-1], strict=True):
            gradients.append(layer.vjp(value, gradients[-1]))
        return gradients[::-1]

    def gradient(self, x: Floats, target: int) -> Floats:
        return self.gradients(x, target)[0]

    def features(self, x: Floats) -> Floats:
        return self.trunk.logits(x)

    def head(self, features: Floats) -> Floats:
        return self.tail.logits(features)

    def head_gradient(self, features: Floats, target: int) -> Floats:
        return self.tail.gradient(features, target)

    def content(self, shape: str = f"N, 3, {SIDE}, {SIDE}", opset: int = 17) -> bytes:
        """The model as ONNX, with `logits` and a Softmax."""
        tensors = ["x", *self.layers]
        nodes = [
            layer.onnx(x, y)
            for layer, x, y in zip(self.layers.values(), tensors, tensors[1:], strict=False)
        ]
        body = "\n".join(lines for lines, _ in nodes)
        proto = onnx.parser.parse_model(
            f"""<ir_version: 9, opset_import: ["": {opset}]>
            net (float[{shape}] x) => (float[{shape.split(",")[0]}, {CLASSES}] probabilities) {{
            {body}
            probabilities = Softmax<axis = -1>(logits) }}"""
        )
        for _, weights in nodes:
            for name, array in weights.items():
                tensor = numpy_helper.from_array(array.astype(np.float32), name)
                proto.graph.initializer.append(tensor)
        return bytes(proto.SerializeToString())


def _drawn(seed: int) -> Callable[..., Floats]:
    """Weights that float32 holds exactly; their scale keeps values near 1."""
    random = np.random.default_rng(seed)

    def draw(*shape: int, scale: float = 1.0) -> Floats:
        spread = scale / np.sqrt(np.prod(shape[1:]))
        return random.normal(0, spread, shape).astype(np.float32).astype(np.float64)

    return draw


def _curved() -> LayeredNet:
    draw = _drawn(11)
    return LayeredNet(
        {
            "c1": Conv(draw(5, 3, 3, 3), draw(5, scale=0.5)),
            "early": Activation("silu"),
            "c2": Conv(draw(6, 5, 3, 3, scale=3), draw(6, scale=0.5), stride=2),
            "features": Activation("tanh"),
            "flat": Flatten(),
            "h1": Linear(draw(9, 96, scale=4), draw(9)),
            "bent": Activation("tanh"),
            "h2": Linear(draw(7, 9, scale=2), draw(7)),
            "active": Activation("softplus"),
            "logits": Linear(draw(CLASSES, 7, scale=2), draw(CLASSES)),
        }
    )


def _piecewise() -> LayeredNet:
    draw = _drawn(13)
    return LayeredNet(
        {
            "c1": Conv(draw(5, 3, 3, 3, scale=2), None),
            "n1": Norm(1 + draw(5, scale=0.3), draw(5), draw(5, scale=0.5), 1 + draw(5) ** 2),
            "early": Activation("relu"),
            "pooled": MaxPool(),
            "c2": Conv(draw(6, 5, 3, 3, scale=2), draw(6)),
            "features": Activation("relu"),
            "flat": Flatten(),
            "h1": Linear(draw(9, 96, scale=2), draw(9)),
            "active": Activation("relu"),
            "logits": Linear(draw(CLASSES, 9, scale=0.7), draw(CLASSES)),
        }
    )


CURVED, PIECEWISE = _curved(), _piecewise()
