"""The straight-through estimator: the derivative of a clip to the range that is represented."""

from typing import Any

import numpy as np
import pytest

from onnxcam.arrays import Array
from onnxcam.autodiff.rules import DEFAULT
from onnxcam.graph.operators import DOMAIN, operator_key
from onnxcam.model.load import load
from onnxcam.rewrite.gradient import SEED, gradient
from tests.autodiff.support.check import assert_valid
from tests.autodiff.support.check import run as run_fused
from tests.autodiff.support.checked_operators import RECORDED
from tests.passes.support.parsed import parse, run

X = np.random.default_rng(1).normal(size=(2, 3, 4, 4)).astype(np.float32) * 2
PAIR = """(float[N, 3, 4, 4] x) => (float[N, 3, 4, 4] y) {
    q = QuantizeLinear<axis = 1>(x, s, z)
    y = DequantizeLinear<axis = 1>(q, s, z) }"""


def is_inside(x: Array, s: Any, z: Any) -> Array:
    """Whether x is in the range, element by element, by the definition."""
    limits = np.iinfo(z.dtype)
    inside = np.zeros(x.shape, bool)
    for index in np.ndindex(x.shape):
        scale, zero = (np.ravel(array)[index[1] % np.size(array)] for array in (s, z))
        shifted = float(x[index]) / float(scale) + int(zero)
        inside[index] = limits.min <= shifted <= limits.max
    return inside


@pytest.mark.parametrize(
    ("s", "z"),
    [
        (np.float32(0.01), np.uint8(100)),
        (np.float32(0.02), np.int8(-20)),
        (np.float32(1e-4), np.int16(3)),
        (np.float32(1e-4), np.uint16(30000)),
        (np.array([0.01, 0.02, 0.005], np.float32), np.array([1, 127, 250], np.uint8)),
        (np.array([0.02], np.float32), np.array([128], np.uint8)),
    ],
)
def test_gradient_passes_inside_the_quantized_range(s: Any, z: Any) -> None:
    original = parse(PAIR, opset=21, s=s, z=z)
    augmented = gradient(load(original), ["x"], "y").proto()
    assert_valid(augmented)
    g = np.random.default_rng(2).normal(size=X.shape).astype(np.float32)
    y, computed = run(augmented, x=X, seed=g)[:1] + run(augmented, x=X, seed=g)[-1:]
    inside = is_inside(X, s, z)
    assert 0.1 < inside.mean() < 0.99
    np.testing.assert_array_equal(computed, np.where(inside, g, 0))
    np.testing.assert_array_equal(y, run(original, x=X)[0])
    RECORDED.add(operator_key("DequantizeLinear", DOMAIN))


def test_rule_is_for_the_domain_of_this_package() -> None:
    """DequantizeLinear of ONNX has no rule: an integer has no derivative by itself."""
    assert operator_key("DequantizeLinear", DOMAIN) in DEFAULT
    assert "DequantizeLinear" not in DEFAULT


def test_gradient_passes_at_the_ends_of_the_range() -> None:
    one = parse(PAIR, s=np.float32(0.5), z=np.uint8(0))
    augmented = gradient(load(one), ["x"], "y").proto()
    x = np.full((1, 3, 4, 4), 0.25, np.float32)
    x[0, 0, 0] = [0, 127.5, 127.6, -0.1]
    computed = run(augmented, x=x, seed=np.ones_like(x))[-1]
    assert computed[0, 0, 0].tolist() == [1, 1, 0, 0]
    assert computed[0, 1:].all()


NET = """(float[N, 3, 4, 4] x) => (float[N, 2] y) {
    q1 = QuantizeLinear(x, s, z)
    d1 = DequantizeLinear(q1, s, z)
    w = DequantizeLinear<axis = 0>(wq, sw, zw)
    c = Conv<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(d1, w)
    r = Relu(c)
    q2 = QuantizeLinear(r, t, z)
    p2 = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(q2)
    f2 = Flatten(p2)
    d2 = DequantizeLinear(f2, t, z)
    y = Gemm(d2, v) }"""
CLIPS = """(float[N, 3, 4, 4] x) => (float[N, 2] y) {
    l1 = Constant<value_float = 0.0>()
    h1 = Constant<value_float = 5.1>()
    h2 = Constant<value_float = 2.55>()
    d1 = Clip(x, l1, h1)
    w = DequantizeLinear<axis = 0>(wq, sw, zw)
    c = Conv<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(d1, w)
    d2 = Clip(c, l1, h2)
    p2 = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(d2)
    f2 = Flatten(p2)
    y = Gemm(f2, v) }"""
GENERATOR = np.random.default_rng(4)
WEIGHTS: dict[str, Any] = {
    "wq": GENERATOR.integers(-127, 128, (4, 3, 3, 3)).astype(np.int8),
    "sw": np.array([0.002, 0.003, 0.004, 0.005], np.float32),
    "zw": np.zeros(4, np.int8),
    "v": GENERATOR.normal(size=(16, 2)).astype(np.float32),
}


def test_quantized_net_has_nearly_the_gradient_of_a_net_of_clips() -> None:
    """Only masks and maxima may differ, since they are of rounded values."""
    steps: dict[str, Any] = {"s": np.float32(0.02), "t": np.float32(0.01), "z": np.uint8(0)}
    quantized = gradient(load(parse(NET, **WEIGHTS, **steps)), ["x", "c"], "y").proto()
    floats = gradient(load(parse(CLIPS, **WEIGHTS)), ["x", "c"], "y").proto()
    feed = {"x": X, SEED: np.ones((2, 2), np.float32)}
    for name in ("gradient/x", "gradient/c"):
        ours, theirs = (run_fused(proto, feed, [name])[0] for proto in (quantized, floats))
        assert np.linalg.norm(theirs) > 0.1
        assert np.corrcoef(ours.ravel(), theirs.ravel())[0, 1] > 0.97


def test_gradient_passes_a_dynamically_quantized_product() -> None:
    """Its range is fitted to x, so the gradient passes everywhere."""
    text = """(float[2, 3] x) => (float[2, 4] y) {
        q, s, z = DynamicQuantizeLinear(x)
        sums = MatMulInteger(q, w, z)
        floats = Cast<to = 1>(sums)
        y = Mul(floats, s) }"""
    w = np.arange(-6, 6, dtype=np.int8).reshape(3, 4)
    augmented = gradient(load(parse(text, w=w)), ["x"], "y").proto()
    x = np.random.default_rng(5).normal(size=(2, 3)).astype(np.float32)
    g = np.random.default_rng(6).normal(size=(2, 4)).astype(np.float32)
    computed = run(augmented, x=x, seed=g)[-1]
    np.testing.assert_allclose(computed, g @ w.T.astype(np.float32), rtol=1e-5, atol=1e-6)
