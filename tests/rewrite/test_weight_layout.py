"""Weights stored once, of which the gradient's copies are computed."""

from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest
from onnx import numpy_helper, parser

from onnxcam.model.load import load
from onnxcam.model.model import Model
from onnxcam.rewrite import weight_layout
from onnxcam.rewrite.gradient import SEED, gradient
from onnxcam.rewrite.weight_layout import lay_out_weights
from tests.autodiff.support.check import numbers, run

CONV = """<ir_version: 8, opset_import: ["" : {opset}]> net ({kind}[2, 16, 6, 5] x) => ({kind}[A, B, C, D] y) {{
    a = {conv}(x, k) t = Tanh(a) {end} }}"""
MATMUL = """<ir_version: 8, opset_import: ["" : 17]> net (float[2, 5, 24] x) => (float[A, B, C] y) {
    a = MatMul(x, k) t = Tanh(a) y = MatMul(t, w) }"""
KERNELS = {
    "one cell": ("Conv", (24, 16, 3, 3)),
    "square": ("Conv<pads = [1, 1, 1, 1]>", (16, 16, 3, 3)),
    "pointwise": ("Conv", (48, 16, 1, 1)),
    "groups": ("Conv<group = 4>", (32, 4, 3, 2)),
    "square groups": ("Conv<group = 2>", (16, 8, 3, 3)),
    "depthwise": ("Conv<group = 16>", (64, 1, 3, 3)),
    "only depthwise": ("Conv<group = 16>", (16, 1, 6, 5)),
}


@pytest.fixture
def small_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """Copies of any size are computed."""
    monkeypatch.setattr(weight_layout, "LEAST_BYTES", 1)


def written(text: str, **weights: Any) -> Model:
    proto = parser.parse_model(text)
    for name, array in weights.items():
        proto.graph.initializer.append(numpy_helper.from_array(array, name))
    return gradient(load(proto), ["x"], "y")


def weight_bytes(model: Model) -> int:
    return sum(
        tensor.values.nbytes
        for scope in (model.graph, *model.graph.subgraphs(recursive=True))
        for tensor in scope.tensors().values()
        if isinstance(tensor, gs.Constant)
    )


def assert_same(stored: Model, computed: Model, shape: tuple[int, ...], rtol: float = 0.0) -> None:
    onnx.checker.check_model(computed.proto(), full_check=True)
    x = numbers(*shape).astype(stored.graph.inputs[0].dtype)
    outputs = [tensor.name for tensor in stored.graph.outputs]
    seed = next(tensor for tensor in stored.graph.inputs if tensor.name == SEED)
    feed = {"x": x, SEED: numbers(*seed.shape, seed=4).astype(seed.dtype)}
    for name, before, after in zip(
        outputs,
        run(stored.proto(), feed, outputs),
        run(computed.proto(), feed, outputs),
        strict=True,
    ):
        np.testing.assert_allclose(after, before, rtol=rtol, atol=rtol, err_msg=name)


@pytest.mark.usefixtures("small_weights")
@pytest.mark.parametrize("kind", ["float", "float16"])
@pytest.mark.parametrize("opset", [11, 18])
@pytest.mark.parametrize("name", KERNELS)
def test_flipped_kernel_is_computed(name: str, opset: int, kind: str) -> None:
    conv, shape = KERNELS[name]
    dtype = np.float32 if kind == "float" else np.float16
    text = CONV.format(opset=opset, kind=kind, conv=conv, end="y = Identity(t)")
    stored = written(text, k=numbers(*shape, seed=1).astype(dtype))
    computed = lay_out_weights(stored, once=True)
    assert weight_bytes(computed) < 0.6 * weight_bytes(stored) + 200
    # ONNX Runtime computes in float32 what it lacks in float16, and sums in another order
    assert_same(stored, computed, (2, 16, 6, 5), rtol=0.0 if kind == "float" else 1e-5)


def test_scaled_kernel_is_computed() -> None:
    """The factor of a mean goes into the kernel before it."""
    end = "b = Conv(t, w) y = GlobalAveragePool(b)"
    text = CONV.format(opset=17, kind="float", conv="Conv<pads = [1, 1, 1, 1]>", end=end)
    weights = {"k": numbers(32, 16, 3, 3, seed=1), "w": numbers(16, 32, 3, 3, seed=2)}
    stored = written(text, **weights)
    computed = lay_out_weights(stored, once=True)
    assert weight_bytes(computed) < 0.55 * weight_bytes(stored)
    assert_same(stored, computed, (2, 16, 6, 5), rtol=1e-6)


@pytest.mark.parametrize("sizes", [(24, 48), (24, 24)])
def test_transposed_matrix_is_computed(sizes: tuple[int, int]) -> None:
    stored = written(MATMUL, k=numbers(*sizes, seed=1), w=numbers(*sizes[::-1], seed=2))
    computed = lay_out_weights(stored, once=True)
    assert weight_bytes(computed) < 0.6 * weight_bytes(stored)
    assert_same(stored, computed, (2, 5, 24))


def test_copies_stay_where_they_are_asked_for() -> None:
    stored = written(MATMUL, k=numbers(24, 48, seed=1), w=numbers(48, 24, seed=2))
    assert lay_out_weights(stored, once=False) is stored


def test_weights_of_a_loop_are_laid_out_in_its_body() -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]> net (float[2, 24] x) => (float[A, B] z)
    <int64 n = {3}, bool go = {1}> {
        z = Loop(n, go, x) <body = body (int64 i, bool c, float[2, 24] s) => (bool d, float[2, 24] r)
            <float[24, 40] k, float[40, 24] kt> {
            d = Identity(c) a = MatMul(s, k) r = MatMul(a, kt) }> }"""
    proto = parser.parse_model(text)
    body = next(node for node in proto.graph.node if node.op_type == "Loop").attribute[0].g
    k = numbers(24, 40, seed=1)
    del body.initializer[:]
    for name, array in (("k", k), ("kt", np.ascontiguousarray(k.T))):
        body.initializer.append(numpy_helper.from_array(array, name))
    stored = load(proto)
    computed = lay_out_weights(stored, once=True)
    assert weight_bytes(computed) < 0.6 * weight_bytes(stored) + 200
    onnx.checker.check_model(computed.proto(), full_check=True)
    feed = {"x": numbers(2, 24)}
    before, after = (run(model.proto(), feed, ["z"])[0] for model in (stored, computed))
    np.testing.assert_allclose(after, before, rtol=1e-6)


def test_copies_of_quantized_weights_are_computed() -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]> net (float[2, 16, 6, 5] x) => (float[A, B, C, D] y)
    <float s = {0.01}, int8 z = {0}> {
        k = DequantizeLinear(q, s, z) a = Conv(x, k) b = Tanh(a) y = Identity(b) }"""
    q = np.random.default_rng(0).integers(-128, 128, (32, 16, 3, 3)).astype(np.int8)
    stored = written(text, q=q)
    computed = lay_out_weights(stored, once=True)
    assert weight_bytes(computed) < q.nbytes + 500
    assert_same(stored, computed, (2, 16, 6, 5), rtol=1e-5)  # summed in another order
    dequantized = [node for node in computed.graph.nodes if node.op == "DequantizeLinear"]
    assert all(len(node.outputs[0].outputs) == 1 for node in dequantized)


def test_copies_of_few_numbers_stay() -> None:
    stored = written(MATMUL, k=numbers(24, 6, seed=1), w=numbers(6, 24, seed=2))
    assert weight_bytes(lay_out_weights(stored, once=True)) == weight_bytes(stored)


def test_weights_that_are_no_copies_stay() -> None:
    stored = written(MATMUL, k=numbers(24, 48, seed=1), w=numbers(48, 24, seed=2))
    computed = lay_out_weights(stored, once=True)
    again = lay_out_weights(computed, once=True)
    assert [node.op for node in again.graph.nodes] == [node.op for node in computed.graph.nodes]


def interpolation(size: int, out: int) -> Any:
    """(size, out): linear, aligned at the corners."""
    places = np.linspace(0, size - 1, out)
    distances = np.abs(np.arange(size)[:, None] - places)
    return np.maximum(1 - distances, 0).astype(np.float32)


BANDED = {
    "columns": interpolation(30, 90),
    "rows": np.ascontiguousarray(interpolation(30, 90).T),
    "both": interpolation(64, 65),
    "an empty column": interpolation(30, 90) * (np.arange(90) != 7),
    "the last rows": np.eye(90, 30, -60, np.float32),
    "one number": np.float32(2.5) * (np.arange(40 * 60).reshape(40, 60) == 77),
    "zeros": np.zeros((40, 60), np.float32),
}
TWO = """<ir_version: 8, opset_import: ["" : {opset}]> net (float[2, 5, {size}] x) => (float[A, B, C] y) {{
    a = MatMul(x, k) y = Tanh(a) }}"""


@pytest.mark.parametrize("opset", [10, 17])
@pytest.mark.parametrize("name", BANDED)
def test_banded_matrix_is_computed_exactly(name: str, opset: int) -> None:
    matrix = BANDED[name]
    size = len(matrix)
    stored = written(TWO.format(opset=opset, size=size), k=matrix)
    computed = lay_out_weights(stored, once=True)
    assert weight_bytes(computed) < 0.3 * weight_bytes(stored)
    assert_same(stored, computed, (2, 5, size))


@pytest.mark.parametrize(
    "matrix",
    [
        numbers(40, 60, seed=1),
        np.eye(40, dtype=np.float32),  # its copies could not be told from each other
        interpolation(40, 60) + np.eye(40, 60, 20, np.float32),  # bands far from each other
        np.eye(6, 8, dtype=np.float32),  # too few numbers
    ],
    ids=["dense", "square", "apart", "small"],
)
def test_matrix_without_narrow_bands_stays(matrix: Any) -> None:
    stored = written(TWO.format(opset=17, size=len(matrix)), k=matrix)
    computed = lay_out_weights(stored, once=True)
    assert not any(node.op == "Where" for node in computed.graph.nodes)
    assert_same(stored, computed, (2, 5, len(matrix)))


def test_banded_matrix_of_two_branches_works_in_both() -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]> net (float[2, 30] x, bool c) => (float[A, B] y) {
        y = If(c) <then_branch = t () => (float[A, B] p) { p = MatMul(x, k) },
                   else_branch = e () => (float[A, B] q) { n = Neg(x) q = MatMul(n, k) }> }"""
    proto = parser.parse_model(text)
    proto.graph.initializer.append(numpy_helper.from_array(BANDED["columns"], "k"))
    stored = load(proto)
    computed = lay_out_weights(stored, once=True)
    onnx.checker.check_model(computed.proto(), full_check=True)
    for condition in (True, False):
        feed = {"x": numbers(2, 30), "c": np.array(condition)}
        before, after = (run(model.proto(), feed, ["y"])[0] for model in (stored, computed))
        np.testing.assert_array_equal(after, before)
