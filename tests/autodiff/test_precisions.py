"""Gradients of models whose numbers are narrow: bfloat16 throughout, weights of few bits in blocks."""

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper, parser
from onnx.reference import ReferenceEvaluator

from onnxcam.model.load import load
from onnxcam.rewrite.gradient import SEED, gradient
from tests.autodiff.support.check import assert_valid, numbers, run

NET = """<ir_version: 10, opset_import: ["" : 22]> net ({type}[N, 3, 8, 8] x) => ({type}[N, 4] y) {{
    conv = Conv<pads = [1, 1, 1, 1]>(x, w, b)
    normed = BatchNormalization(conv, scale, shift, mean, var)
    act = Sigmoid(normed)
    gated = Mul(normed, act)
    small = AveragePool<kernel_shape = [2, 2], strides = [2, 2]>(gated)
    pooled = GlobalAveragePool(small)
    flat = Flatten(pooled)
    y = Gemm<transB = 1>(flat, head, bias)
}}"""
WEIGHTS = {
    "w": numbers(6, 3, 3, 3, low=-0.4, high=0.4),
    "b": numbers(6, seed=1),
    "scale": numbers(6, low=0.5, high=1.5),
    "shift": numbers(6, seed=2),
    "mean": numbers(6, seed=3),
    "var": numbers(6, seed=4, low=1, high=2),
    "head": numbers(4, 6),
    "bias": numbers(4),
}
ULP = 2.0**-8  # of bfloat16


def net(name: str, dtype: Any) -> Any:
    proto = parser.parse_model(NET.format(type=name))
    for key, weight in WEIGHTS.items():
        rounded = weight.astype(ml_dtypes.bfloat16).astype(dtype)
        proto.graph.initializer.append(numpy_helper.from_array(rounded, key))
    return proto


def test_gradient_of_bfloat16_model_matches_float32() -> None:
    """ONNX Runtime runs little of it on CPUs: onnx's own evaluator does, beside the same net in float32."""
    outputs = ["y", "gradient/x", "gradient/gated"]
    x, seed = numbers(2, 3, 8, 8).astype(ml_dtypes.bfloat16), numbers(2, 4)
    narrow = gradient(load(net("bfloat16", ml_dtypes.bfloat16)), ["x", "gated"], "y").proto()
    assert_valid(narrow)
    types = {tensor.name: tensor.type.tensor_type.elem_type for tensor in narrow.graph.output}
    assert types["gated"] == TensorProto.BFLOAT16
    assert types["gradient/x"] == types["gradient/gated"] == TensorProto.FLOAT
    computed = ReferenceEvaluator(narrow).run(outputs, {"x": x, SEED: seed})
    wide = gradient(load(net("float", np.float32)), ["x", "gated"], "y").proto()
    expected = run(wide, {"x": x.astype(np.float32), SEED: seed}, outputs)
    for value, exact in zip(computed, expected, strict=True):
        error = np.abs(value.astype(np.float32) - exact).max()
        assert error <= 8 * ULP * np.abs(exact).max()


KINDS = {
    "int8": TensorProto.INT8,
    "uint8": TensorProto.UINT8,
    "int4": TensorProto.INT4,
    "uint4": TensorProto.UINT4,
}


@pytest.mark.parametrize("block", [0, 4])
@pytest.mark.parametrize("kind", KINDS)
def test_gradient_with_blockwise_quantized_weights(kind: str, block: int) -> None:
    """`block_size` of opset 21: a scale for every few weights of a row, or one a row."""
    generator = np.random.default_rng(block)
    steps = generator.integers(0, 16, (6, 16)) - (0 if kind[0] == "u" else 8)
    scale = numbers(6, 4, low=0.05, high=0.1) if block else numbers(6, low=0.05, high=0.1)
    stored = helper.make_tensor("stored", KINDS[kind], steps.shape, steps.ravel().tolist())
    ones = [1] * scale.size
    zero = helper.make_tensor("zero", KINDS[kind], scale.shape, ones)
    along = "axis = 1, block_size = 4" if block else "axis = 0"
    proto = parser.parse_model(f"""<ir_version: 10, opset_import: ["" : 21]>
    net (float[N, 16] x) => (float[N, 6] y) {{
        floats = DequantizeLinear<{along}>(stored, scale, zero)
        transposed = Transpose<perm = [1, 0]>(floats)
        h = MatMul(x, transposed)
        y = Tanh(h)
    }}""")
    proto.graph.initializer.extend([stored, zero, numpy_helper.from_array(scale, "scale")])
    augmented = gradient(load(proto), ["x"], "y").proto()
    assert_valid(augmented)
    x, seed = numbers(2, 16), numbers(2, 6, seed=1)
    y, g = run(augmented, {"x": x, SEED: seed}, ["y", "gradient/x"])
    weights: NDArray[Any] = (steps - 1) * (scale.repeat(4, axis=1) if block else scale[:, None])
    np.testing.assert_allclose(y, np.tanh(x @ weights.T), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(g, (seed * (1 - y**2)) @ weights, rtol=1e-4, atol=1e-6)
