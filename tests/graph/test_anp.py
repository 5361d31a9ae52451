"""Formulas compute the same on arrays (by NumPy) and as graphs of Values (by ONNX Runtime)."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from onnx import parser

from onnxcam.errors import ModelError
from onnxcam.graph import anp
from onnxcam.graph.tracing import WRITERS, Builder, Value
from onnxcam.model.load import load
from tests.autodiff.support.check import numbers, run

FEED = {"a": numbers(2, 3, 4, low=0.5, high=1.5), "b": numbers(3, 1, seed=1, low=0.4, high=1.6)}
TEXT = """<ir_version: 10, opset_import: ["" : {opset}]>
net (float[2, 3, 4] a, float[3, 1] b) => (float[2, 3, 4] c) {{ c = Add(a, b) }}"""

FORMULAS: dict[str, Callable[[Any, Any], Any]] = {
    "arithmetic": lambda a, b: (a + b) * a - b / a + 2 * a - 1 / b + (3 - a) ** 2,
    "negative": lambda a, b: -a,
    "maximum": lambda a, b: np.maximum(a, b) - np.minimum(a, 1.0),
    "matmul": lambda a, b: np.swapaxes(a, 1, 2) @ b,
    "smooth": lambda a, b: np.exp(a) + np.log(b) + np.sqrt(a) + np.square(b) + np.tanh(a),
    "trigonometry": lambda a, b: np.sin(a) + np.cos(b) + np.sinh(a) + np.cosh(b),
    "steps": lambda a, b: (
        np.abs(a - 1)
        + np.sign(a - 1)
        + np.floor(a)
        + np.rint(a)
        + np.clip(a, 0.7, 1.2)
        + np.reciprocal(b)
    ),
    "where": lambda a, b: np.where(a > b, a, 0.0),
    "where of numbers": lambda a, b: np.where(a <= b, 1.0, b),
    "comparisons": lambda a, b: np.where(
        np.logical_or(np.logical_and(a > 1, b >= 1), np.logical_not(a < b)), a, b
    ),
    "equality": lambda a, b: np.where(a == a, 1.0, a) + np.where(a != a, 1.0, a),
    "sum": lambda a, b: np.sum(a, axis=(0, -1)),
    "sum of all": lambda a, b: np.sum(a),
    "keepdims": lambda a, b: np.sum(a, axis=1, keepdims=True) + np.mean(a, axis=-1, keepdims=True),
    "mean": lambda a, b: np.mean(a, axis=2),
    "extrema": lambda a, b: np.max(a, axis=(1, 2)) - np.min(a, axis=(2, 1)),
    "product": lambda a, b: np.prod(a, axis=-1),
    "reshape": lambda a, b: np.reshape(a, (4, -1)),
    "transpose": lambda a, b: np.transpose(a, (2, 0, 1)),
    "transpose of all": lambda a, b: np.transpose(a),
    "broadcast": lambda a, b: np.broadcast_to(b, (2, 3, 4)),
    "concatenate": lambda a, b: np.concatenate([a, a * 2, a], axis=1),
    "expand": lambda a, b: np.expand_dims(a, (0, -1)),
    "squeeze": lambda a, b: np.squeeze(b, axis=-1),
    "array operand": lambda a, b: a * np.arange(4.0) + np.ones((3, 1)),
    "array first": lambda a, b: np.arange(4.0) * a - np.float64(2) / a,
}


def compute(opset: int, formula: Callable[[Any, Any], Any]) -> tuple[Value, Any]:
    """The Value of a formula, and what ONNX Runtime computes for it."""
    model = load(parser.parse_model(TEXT.format(opset=opset)))
    build = Builder(model.graph)
    value = formula(build.value("a"), build.value("b"))
    model.graph.outputs.append(value.tensor)
    return value, run(model.proto(), FEED, [value.name])[0]


@pytest.mark.parametrize("opset", [11, 13, 18, 22])
@pytest.mark.parametrize("name", FORMULAS)
def test_formula_on_values_equals_formula_on_arrays(name: str, opset: int) -> None:
    formula = FORMULAS[name]
    value, array = compute(opset, formula)
    expected = formula(*(operand.astype(np.float64) for operand in FEED.values()))
    np.testing.assert_allclose(array, expected, rtol=2e-6, atol=1e-6)
    assert array.dtype == np.float32
    assert value.shape == expected.shape
    assert value.ndim == expected.ndim


def test_formulas_use_every_function_of_anp() -> None:
    """Every function that can be written into a graph is checked above."""
    used: set[Any] = set()

    class Spy:
        shape, ndim = (2, 3, 4), 3

        def __array_ufunc__(self, ufunc: Any, method: str, *xs: Any, **options: Any) -> Any:
            used.add(ufunc)
            return self

        def __array_function__(self, function: Any, types: Any, xs: Any, options: Any) -> Any:
            used.add(function)
            return self

    class Operand(Spy, np.lib.mixins.NDArrayOperatorsMixin):
        pass

    for formula in FORMULAS.values():
        formula(Operand(), Operand())
    assert (WRITERS.keys()) - used == set()


def test_anp_has_every_function_under_numpys_name() -> None:
    rows = {name: value for name, value in vars(anp).items() if value in [*WRITERS]}
    assert {np.absolute if name == "abs" else getattr(np, name) for name in rows} == WRITERS.keys()
    assert all(getattr(np, name) is function for name, function in rows.items())


def test_function_that_is_not_in_anp_is_type_error() -> None:
    build = Builder(load(parser.parse_model(TEXT.format(opset=17))).graph)
    a: Any = build.value("a")
    with pytest.raises(TypeError):
        np.arctan2(a, a)
    with pytest.raises(TypeError):
        np.linalg.svd(a)
    with pytest.raises(TypeError):
        np.add.reduce(a)


def test_unknown_shape_is_model_error() -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]>
    net (float[a, b] x, int64[n] s) => (float[c, d] y) { r = Reshape(x, s) y = Flatten(r) }"""
    build = Builder(load(parser.parse_model(text)).graph)
    with pytest.raises(ModelError, match="shape of tensor 'r'"):
        _ = build.value("r").shape
    assert build.value("r").dtype == np.float32
