"""Gradients that OpenVINO computes, against differences of the float64 forward pass.

Other runtimes may read an operator differently and say nothing: OpenVINO 2026.4 computes a HardSigmoid whose
offset is 0 with the default, 0.5.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, parser

import onnxcam
from onnxcam.model.load import load
from onnxcam.portability.runtimes.openvino import FLOAT32
from onnxcam.rewrite.gradient import SEED, gradient
from tests.autodiff.rules.test_activation import SHAPES
from tests.autodiff.support.check import check_model, check_vjp, numbers, one_node_model, run
from tests.support.nets import MLP, Net, random_images

openvino = pytest.importorskip("openvino", reason="needs the extra `oracle`")

pytestmark = pytest.mark.oracle
NOT_READ = {"Swish"}  # of opset 24, which OpenVINO does not read; nor does ONNX Runtime 1.31


def run_by_openvino(
    proto: onnx.ModelProto, feed: Mapping[str, Any], names: Sequence[str]
) -> list[Any]:
    """The outputs of a model on one thread, in float32."""
    core = openvino.Core()
    settings = {**FLOAT32, "INFERENCE_NUM_THREADS": "1"}
    compiled = core.compile_model(core.read_model(proto.SerializeToString()), "CPU", settings)
    inputs = {name for tensor in compiled.inputs for name in tensor.names}
    results = compiled({name: array for name, array in feed.items() if name in inputs})
    return [np.array(results[name]) for name in names]


@pytest.mark.parametrize("dynamic", [(), (0, 1)], ids=str)
@pytest.mark.parametrize(
    ("op", "opset", "attributes"), [case for case in SHAPES if case[0] not in NOT_READ], ids=str
)
def test_gradient_of_activation(
    op: str, opset: int, attributes: dict[str, Any], dynamic: tuple[int, ...]
) -> None:
    x = numbers(3, 12, low=-5.0, high=5.0)
    check_vjp(op, x, opset=opset, dynamic=dynamic, runner=run_by_openvino, **attributes)


@pytest.mark.parametrize(
    ("op", "x", "expected"),
    [
        ("Relu", [-1, 0, 2], [0, 0, 1]),
        ("LeakyRelu", [-1, 0, 2], [0.01, 0.01, 1]),
        ("Abs", [-1, 0, 2], [-1, 0, 1]),
        ("HardSwish", [-3, 0, 3], [0, 0.5, 1]),
    ],
)
def test_gradient_at_the_kink(op: str, x: list[float], expected: list[float]) -> None:
    array = np.array(x, np.float32)
    proto = one_node_model(helper.make_node(op, ["x"], ["y"]), {"x": array}, {}, 17)
    model = gradient(load(proto), ["x"], "y")
    feed = {"x": array, SEED: np.ones(3, np.float32)}
    g = run_by_openvino(model.proto(), feed, ["gradient/x"])[0]
    np.testing.assert_allclose(g, expected, rtol=1e-6)


@pytest.mark.parametrize("bounds", [(0.0, 6.0), (-0.5, None), (None, 0.0), (-0.5, 0.5), (0.0, 1.0)])
def test_gradient_of_clip(bounds: tuple[float | None, ...]) -> None:
    arrays = [None if bound is None else np.array(bound, np.float32) for bound in bounds]
    x = numbers(3, 12, low=-2.0, high=8.0)
    check_vjp("Clip", x, *arrays, opset=13, runner=run_by_openvino)


@pytest.mark.parametrize("strides", [[1, 1], [2, 2], [3, 2]], ids=str)
@pytest.mark.parametrize("auto_pad", ["SAME_UPPER", "SAME_LOWER"])
def test_gradient_of_max_pool_of_any_size(auto_pad: str, strides: list[int]) -> None:
    """Its indices are wrong there if the pads are not written out."""
    attributes: dict[str, Any] = {"auto_pad": auto_pad, "kernel_shape": [3, 2], "strides": strides}
    x = numbers(2, 2, 7, 5)
    check_vjp("MaxPool", x, dynamic=(2, 3), runner=run_by_openvino, **attributes)


SCALES = "{1.0, 1.0, 2.0, 2.0}"
NETS = {  # with 16 channels, so that gradients are written for the blocked layout
    "relu": "a = Conv(x, k) b = Relu(a) c = Conv(b, k) y = Relu(c)",
    "relu6": "a = Conv(x, k) b = Clip(a, zero, six) c = Conv(b, k) y = Clip(c, zero, six)",
    "leaky relu": "a = Conv(x, k) b = LeakyRelu(a) c = Conv(b, k) y = LeakyRelu<alpha = 0.3>(c)",
    "hard swish": "a = Conv(x, k) b = HardSwish(a) c = Conv(b, k) y = HardSwish(c)",
    "silu": "a = Conv(x, k) s = Sigmoid(a) b = Mul(a, s) y = Conv(b, k)",
    "gate": "a = Conv(x, k) m = GlobalAveragePool(a) h = HardSigmoid(m) b = Mul(a, h) y = Relu(b)",
    "strided": "a = Conv<strides = [2, 2]>(x, k) b = Relu(a) y = Conv(b, k)",
    "max pool": "a = MaxPool<kernel_shape = [2, 2], strides = [1, 1]>(x) b = Relu(a) y = Conv(b, k)",
    "average pool": "a = AveragePool<kernel_shape = [2, 2]>(x) b = Relu(a) y = Conv(b, k)",
    "upsampling": "a = Relu(x) u = Resize(a, none, scales) y = Conv(u, k)",
    "norm": "a = BatchNormalization(x, one, one, one, one) b = Relu(a) y = GlobalAveragePool(b)",
}


@pytest.mark.parametrize("batch", ["2", "N"])
@pytest.mark.parametrize("name", NETS)
def test_gradient_of_small_net(name: str, batch: str) -> None:
    text = f"""<ir_version: 8, opset_import: ["" : 17]>
        net (float[{batch}, 16, 5, 6] x) => (float[A, B, C, D] y)
        <float zero = {{0.0}}, float six = {{6.0}}, float[0] none = {{}}, float[4] scales = {SCALES}>
        {{ {NETS[name]} }}"""
    proto = parser.parse_model(text)
    kernel = numbers(16, 16, 1, 1, seed=1) * np.float32(3)
    ones = np.ones(16, np.float32)
    for name_of_weight, array in (("k", kernel), ("one", ones)):
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array, name_of_weight))
    feed = {"x": numbers(2, 16, 5, 6, low=-3.0, high=3.0, seed=2)}
    check_model(proto, feed, ["x"], "y", run_by_openvino)


WEIGHTS = {  # square, which the gradient reads the other way round
    "Conv": ("Conv<strides = [2, 2]>", (2, 16, 5, 4), (16, 16, 1, 1)),
    "Conv of 3 x 3": ("Conv<strides = [2, 2], pads = [1, 1, 1, 1]>", (2, 16, 5, 4), (16, 16, 3, 3)),
    "Conv in groups": ("Conv<strides = [2, 2], group = 2>", (2, 16, 5, 4), (16, 8, 2, 2)),
    "depthwise Conv": ("Conv<strides = [2, 2], group = 6>", (2, 6, 5, 4), (6, 1, 2, 2)),
    "ConvTranspose": ("ConvTranspose<strides = [2, 2]>", (2, 16, 3, 4), (16, 16, 2, 2)),
    "Gemm": ("Gemm", (5, 16), (16, 16)),
    "transposed Gemm": ("Gemm<transB = 1>", (5, 16), (16, 16)),
    "MatMul": ("MatMul", (2, 5, 6), (6, 6)),
    "Einsum": ('Einsum<equation = "bij,jk->bik">', (2, 5, 6), (6, 6)),
}


@pytest.mark.parametrize("name", WEIGHTS)
def test_gradient_reads_square_weights_the_other_way_round(name: str) -> None:
    """OpenVINO arranges weights once for all their readers that have the same sizes."""
    operator, shape, weight_shape = WEIGHTS[name]
    axes = ", ".join("ABCD"[: len(shape)])
    sizes = ", ".join(map(str, shape))
    operator, _, attributes = operator.partition("<")
    attributes = f"<{attributes}" if attributes else ""
    text = f"""<ir_version: 8, opset_import: ["" : 17]> net (float[{sizes}] x) => (float[{axes}] y) {{
        a = {operator}{attributes}(x, w) t = Tanh(a) y = {operator}{attributes}(t, w) }}"""
    proto = parser.parse_model(text)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(numbers(*weight_shape), "w"))
    check_model(proto, {"x": numbers(*shape, seed=1)}, ["x"], "y", run_by_openvino)


@pytest.mark.parametrize("batch", ["2", "N"])
def test_gradient_reads_weights_in_many_arrangements(batch: str) -> None:
    """OpenVINO makes one of copies that are computed alike. It runs the model itself wrongly."""
    text = f"""<ir_version: 8, opset_import: ["" : 17]> net (float[{batch}, 6, 5, 4] x) => (float[A, B] y) {{
        a = Einsum<equation = "nchw,cd->ndhw">(x, w) t = Tanh(a) p = GlobalAveragePool(t) f = Flatten(p)
        b = Gemm<transB = 1>(f, w) u = Tanh(b) c = MatMul(u, w) v = Tanh(c) y = Gemm(v, w) }}"""
    proto = parser.parse_model(text)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(3 * numbers(6, 6), "w"))
    written = gradient(load(proto), ["x"], "y").proto()
    feed = {"x": numbers(2, 6, 5, 4, seed=1), SEED: numbers(2, 6, seed=2)}
    expected = run(written, feed, ["y", "gradient/x"])
    computed = run_by_openvino(written, feed, ["y", "gradient/x"])
    np.testing.assert_allclose(computed[0], expected[0], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(computed[1], expected[1], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("method", ["integrated-gradients", "blur-ig", "smooth-grad"])
@pytest.mark.parametrize("shape", ["2, 3, 8, 8", "N, 3, 8, 8"])
def test_images_are_the_same_in_every_round_of_a_loop(shape: str, method: str) -> None:
    """OpenVINO writes into values that the body of a Loop captures, and reshapes itself."""
    rows = shape.partition(",")[0]
    net = Net(head=MLP, shape=shape, outputs=f"float[{rows}, 5] logits")
    settings: dict[str, Any] = {"samples" if method == "smooth-grad" else "steps": 3}
    written = onnxcam.embed(net.content(), method, rounds=4, **settings).model.proto()
    feed = {"x": random_images(2)}
    computed = run_by_openvino(written, feed, ["saliency"])[0]
    expected = run(written, feed, ["saliency"])[0]
    np.testing.assert_allclose(computed, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
