"""Files are hardly larger than the model and the tile of noise."""

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

import onnxcam
from onnxcam.model.proto.walk import all_scopes
from tests.autodiff.support.check import numbers

SIZE = 192
TILE = 3 * (SIZE + 32) ** 2
HEADER = '<ir_version: 8, opset_import: ["" : 17]> net (float[N, 3, 192, 192] x) => (float[N, 9] y) {{ {} }}'
CLASSES = "g = GlobalAveragePool({}) f = Flatten(g) y = MatMul(f, c)"
STRIDED = "Conv<pads = [1, 1, 1, 1], strides = [4, 4]>"
SAME = "Conv<pads = [1, 1, 1, 1]>"


def convolutions() -> onnx.ModelProto:
    """1.5 MB of kernels."""
    body = f"a = {STRIDED}(x, k1) b = Relu(a) d = {SAME}(b, k2) e = Relu(d)" + CLASSES.format("e")
    return net(body, k1=(200, 3, 3, 3), k2=(200, 200, 3, 3), c=(200, 9))


def enlargements() -> onnx.ModelProto:
    """15 kB of weights, and feature maps that are enlarged to up to 640 x 768."""
    body = f"a = {STRIDED}(x, k1) b = Relu(a) "
    for number, (height, width) in enumerate(((96, 120), (320, 384), (640, 768))):
        before, after = ("b", "r0", "r1")[number], f"r{number}"
        body += (
            f"s{number} = Constant<value_ints = [1, 4, {height}, {width}]>() "
            f"q{number} = {SAME}({before}, k2) p{number} = Relu(q{number}) "
            f'{after} = Resize<mode = "linear">(p{number}, , , s{number}) '
        )
    return net(body + CLASSES.format("r2"), k1=(4, 3, 3, 3), k2=(4, 4, 3, 3), c=(4, 9))


def quantized() -> onnx.ModelProto:
    """40 convolutions of int8, dequantized with a scale of their own."""
    body, last, stride = "", "x", STRIDED
    for layer in range(40):
        body += (
            f"s{layer} = Constant<value_float = 0.02>() "
            f"w{layer} = DequantizeLinear(q{layer}, s{layer}) "
            f"a{layer} = {stride}({last}, w{layer}) b{layer} = Relu(a{layer}) "
        )
        last, stride = f"b{layer}", SAME
    shapes = {f"q{layer}": (16, 16 if layer else 3, 3, 3) for layer in range(40)}
    return net(body + CLASSES.format(last), **shapes, c=(16, 9))


def net(body: str, **shapes: tuple[int, ...]) -> onnx.ModelProto:
    proto = parser.parse_model(HEADER.format(body))
    for seed, (name, shape) in enumerate(shapes.items()):
        values = 0.1 * numbers(*shape, seed=seed).astype(np.float32)
        if name.startswith("q"):
            values = np.rint(50 * values).astype(np.int8)
        proto.graph.initializer.append(numpy_helper.from_array(values, name))
    return proto


@pytest.mark.parametrize("model", [convolutions, enlargements, quantized])
def test_file_is_as_large_as_model_and_tile(model: Callable[[], onnx.ModelProto]) -> None:
    content = model().SerializeToString()
    file = onnxcam.embed(content, "smooth-grad-cam++", preprocess="imagenet").model.proto()
    assert file.ByteSize() - len(content) - TILE < max(0.05 * len(content), 150e3)


def test_dtypes_of_dequantized_weights_are_not_declared() -> None:
    file = onnxcam.embed(quantized().SerializeToString(), preprocess="imagenet").model.proto()
    declared = {value.name for scope in all_scopes(file) for value in scope.value_info}
    assert declared
    assert not declared & {f"w{layer}" for layer in range(40)}
