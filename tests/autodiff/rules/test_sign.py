"""Sign: gradients pass straight through it where it binarizes, and only there."""

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from onnxcam.model.load import load
from onnxcam.rewrite.gradient import SEED, gradient
from tests.autodiff.support.check import assert_valid, numbers, run
from tests.autodiff.support.checked_operators import RECORDED

X = numbers(2, 3, 4, low=-2.0, high=2.0)
W = numbers(4, 5, seed=1)
G = numbers(2, 3, 5, seed=2)
INSIDE = np.abs(X) <= 1


def gradient_of(body: str, g: Any, size: str = "N") -> Any:
    proto = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["": 17]> net (float[{size}, 3, 4] x) => (float y) {{ {body} }}'
    )
    proto.graph.initializer.append(numpy_helper.from_array(W, "w"))
    augmented = gradient(load(proto), ["x"], "y").proto()
    assert_valid(augmented)
    return run(augmented, {"x": X, SEED: g}, ["gradient/x"])[0]


@pytest.mark.parametrize("size", ["N", "2"])
def test_sign_before_a_product_with_weights_is_straight_through(size: str) -> None:
    computed = gradient_of("s = Sign(x) y = MatMul(s, w)", G, size)
    np.testing.assert_allclose(computed, np.where(INSIDE, G @ W.T, 0), rtol=1e-6)
    RECORDED.add("Sign")


def test_sign_that_is_scaled_by_a_mean_is_straight_through() -> None:
    """As in XNOR-Net: the factor is a mean of |x|, which gets its own gradient."""
    body = "s = Sign(x) a = Abs(x) m = ReduceMean<axes = [2]>(a) p = Mul(s, m) y = MatMul(p, w)"
    mean, g = np.abs(X).mean(axis=2, keepdims=True), G @ W.T
    through_mean = (g * np.sign(X)).sum(axis=2, keepdims=True) * np.sign(X) / X.shape[2]
    expected = np.where(INSIDE, g * mean, 0) + through_mean
    np.testing.assert_allclose(gradient_of(body, G), expected, rtol=1e-5, atol=1e-6)


def test_sign_beside_a_shortcut_is_straight_through() -> None:
    """As in Bi-Real Net: the shortcut passes its own gradient on."""
    weights = numpy_helper.from_array(numbers(4, 4, seed=4), "v")
    proto = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["": 17]> net (float[N, 3, 4] x) => (float[N, 3, 5] y) {
        s = Sign(x) p = MatMul(s, v) r = Add(p, x) y = MatMul(r, w) }"""
    )
    proto.graph.initializer.extend([numpy_helper.from_array(W, "w"), weights])
    augmented = gradient(load(proto), ["x"], "y").proto()
    (computed,) = run(augmented, {"x": X, SEED: G}, ["gradient/x"])
    g = G @ W.T
    expected = g + np.where(INSIDE, g @ numpy_helper.to_array(weights).T, 0)
    np.testing.assert_allclose(computed, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("body", "slope"),
    [
        ("s = Sign(x) y = Mul(x, s)", np.sign(X)),
        ("s = Sign(x) a = Abs(x) r = Sqrt(a) y = Mul(s, r)", 0.5 / np.sqrt(np.abs(X))),
        (
            "s = Sign(x) a = Abs(x) b = Add(a, one) q = Div(a, b) y = Mul(q, s)",
            (1 + np.abs(X)) ** -2,
        ),
        ("n = Neg(x) s = Sign(n) y = Mul(x, s)", -np.sign(X)),
        ("s = Sign(x) t = Add(s, one) h = Mul(t, half) y = Mul(h, x)", (1 + np.sign(X)) / 2),
        ("s = Sign(x) t = Sign(x) p = Mul(s, x) q = Mul(t, x) y = Add(p, q)", 2 * np.sign(X)),
    ],
    ids=["abs", "signed root", "softsign", "negated", "relu", "two"],
)
def test_sign_in_a_function_written_out_has_the_exact_gradient(body: str, slope: Any) -> None:
    g = numbers(*X.shape, seed=3)
    constants = "one = Constant<value_float = 1.0>() half = Constant<value_float = 0.5>() "
    used = "".join(part for part in constants.split("  ") if part)
    np.testing.assert_allclose(gradient_of(used + body, g), g * slope, rtol=1e-5, atol=1e-6)


def test_sign_passes_at_the_ends_of_the_range() -> None:
    augmented = gradient(
        load(
            onnx.parser.parse_model(
                '<ir_version: 8, opset_import: ["": 17]> net (float[4] x) => (float[4] y) { y = Sign(x) }'
            )
        ),
        ["x"],
        "y",
    ).proto()
    x = np.array([-1.0, 1.0, 1.0001, -1.0001], np.float32)
    computed = run(augmented, {"x": x, SEED: np.ones(4, np.float32)}, ["gradient/x"])[0]
    assert computed.tolist() == [1, 1, 0, 0]
