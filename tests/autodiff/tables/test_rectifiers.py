"""Guided backpropagation and deconvolution at every rectifier, however an exporter writes it."""

import numpy as np
import pytest

from onnxcam.arrays import Floats
from tests.autodiff.support.bent import bent_gradient, written
from tests.autodiff.support.check import numbers
from tests.autodiff.support.rectifiers import (
    CONSTANTS,
    OPERATORS,
    OTHERS,
    SPELLINGS,
    operator,
    several_nodes,
)

X = numbers(2, 4, 3, 3, low=-8.0, high=8.0)
SEED = numbers(2, 4, 3, 3, seed=1)


def assert_close(result: Floats, expected: Floats) -> None:
    np.testing.assert_allclose(result, expected, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("name", OPERATORS)
def test_guided_rectifier_drops_negative_cotangents(name: str) -> None:
    proto = operator(name)
    expected = bent_gradient(proto, "default", X) * np.maximum(SEED, 0)
    assert_close(bent_gradient(proto, "guided", X, SEED), expected)
    assert np.any(expected)


@pytest.mark.parametrize("name", OPERATORS)
def test_deconvnet_passes_positive_cotangents_wherever_x_is(name: str) -> None:
    result = bent_gradient(operator(name), "deconvnet", X, SEED)
    assert_close(result, np.maximum(SEED, 0))


@pytest.mark.parametrize("rules", ["guided", "deconvnet"])
@pytest.mark.parametrize(("name", "spelling"), SPELLINGS)
def test_rectifier_of_several_nodes_has_the_map_of_its_operator(
    name: str, spelling: str, rules: str
) -> None:
    expected = bent_gradient(operator(name), rules, X, SEED)
    result = bent_gradient(several_nodes(SPELLINGS[name, spelling]), rules, X, SEED)
    if rules == "guided":  # the kinks of float32 at the ends of a clipped line
        away = np.abs(np.abs(X) - 3) > 1e-3
        result, expected = result[away], expected[away]
    assert_close(result, expected)


@pytest.mark.parametrize("rules", ["guided", "deconvnet"])
@pytest.mark.parametrize("name", OTHERS)
def test_other_operator_keeps_its_gradient(name: str, rules: str) -> None:
    proto = several_nodes(OTHERS[name])
    seed = SEED[:, :2] if name == "gated linear unit" else SEED
    expected = bent_gradient(proto, "default", X, seed)
    assert_close(bent_gradient(proto, rules, X, seed), expected)


def test_relu6_of_old_opset_is_a_rectifier() -> None:
    proto = written("y = Clip<min = 0.0, max = 6.0>(x)", 10, constants=CONSTANTS)
    expected = bent_gradient(operator("relu6"), "guided", X, SEED)
    assert_close(bent_gradient(proto, "guided", X, SEED), expected)


@pytest.mark.parametrize("rules", ["guided", "deconvnet"])
def test_quantized_silu_is_a_rectifier(rules: str) -> None:
    text = """q = QuantizeLinear(x, sixteenth, middle) a = DequantizeLinear(q, sixteenth, middle)
        s = Sigmoid(a) r = QuantizeLinear(s, fine, none) b = DequantizeLinear(r, fine, none)
        y = Mul(a, b)"""
    scales = "float sixteenth = {0.0625}, float fine = {0.00392157}"
    proto = written(text, constants=f"{scales}, uint8 middle = {{128}}, uint8 none = {{0}}")
    inside = np.abs(X) < 7.5  # beyond, the quantization clips
    expected = bent_gradient(operator("silu"), rules, X, SEED)
    result = bent_gradient(proto, rules, X, SEED)
    np.testing.assert_allclose(result[inside], expected[inside], atol=0.05)


@pytest.mark.parametrize("rules", ["guided", "deconvnet"])
def test_rectifier_with_several_readers_drops_negative_sums(rules: str) -> None:
    """Of the cotangents of all readers together."""
    proto = written("r = Relu(x) a = Sin(r) y = Sub(a, r)")
    result = bent_gradient(proto, rules, X, SEED)
    passed = np.maximum(SEED * (np.cos(np.maximum(X, 0)) - 1), 0)
    expected = passed if rules == "deconvnet" else np.where(X > 0, passed, 0)
    assert_close(result, expected)
    assert np.any(expected)


@pytest.mark.parametrize("rules", ["guided", "deconvnet"])
def test_rectifiers_in_a_row_each_drop_negative_cotangents(rules: str) -> None:
    """As of one module that a network runs several times."""
    proto = written("a = Relu(x) n = Neg(a) b = LeakyRelu<alpha = 0.5>(n) y = Neg(b)")
    result = bent_gradient(proto, rules, X, SEED)
    assert not np.any(result), "what is positive before one is negative before the other"
