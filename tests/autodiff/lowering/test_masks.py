"""Masks equal comparisons, also next to the bound."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from onnx import parser

from onnxcam.autodiff.lowering.masks import lerp, mask_above, mask_below
from onnxcam.graph.tracing import Builder, Value
from onnxcam.model.load import load
from tests.autodiff.support.check import run

BOUNDS = (0.0, 6.0, -3.0, 0.1, 1e-3, 1000.0)
TYPES = {"float": np.float32, "float16": np.float16, "double": np.float64}


def evaluate(formula: Callable[[Value], Value], x: Any, kind: str = "float") -> Any:
    text = f"""<ir_version: 8, opset_import: ["" : 17]>
    net ({kind}[N] x) => ({kind}[N] y) {{ y = Identity(x) }}"""
    model = load(parser.parse_model(text))
    build = Builder(model.graph)
    y = formula(build.value("x"))
    model.graph.outputs = [y.tensor]
    return run(model.proto(), {"x": x}, [y.name])[0]


def around(bound: float, dtype: Any) -> Any:
    """The bound, the floats next to it, and numbers far from it."""
    center = dtype(bound)
    near = [np.nextafter(center, dtype(side)) for side in (-np.inf, np.inf)]
    far = [center - dtype(1), center + dtype(1), dtype(-30000), dtype(30000)]
    points = np.array([center, *(near if bound else (dtype(-1e-4), dtype(1e-4))), *far], dtype)
    return (
        np.concatenate([points, np.array([1e-30, -1e-30, 1e8], dtype)])
        if dtype is np.float32
        else points
    )


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("bound", BOUNDS)
def test_mask_equals_comparison(bound: float, kind: str) -> None:
    x = around(bound, TYPES[kind])
    there = TYPES[kind](bound)
    np.testing.assert_array_equal(evaluate(lambda v: mask_above(v, bound), x, kind), x > there)
    np.testing.assert_array_equal(evaluate(lambda v: mask_below(v, bound), x, kind), x < there)


def test_mask_with_a_tensor_as_bound() -> None:
    x = np.array([-1, 0, 1, 2], np.float32)
    mask = evaluate(lambda v: mask_above(v, v * v) + mask_below(v, v * v), x)
    np.testing.assert_array_equal(mask, [1, 0, 0, 1])


@pytest.mark.parametrize("ends", [(0.0, 1.0), (1.0, 0.0), (0.3, 1.0), (0.0, 1 / 6), (0.5, 0.25)])
@pytest.mark.parametrize("kind", ["float", "double"])
def test_lerp(ends: tuple[float, float], kind: str) -> None:
    share = np.array([0, 0.25, 0.5, 1], TYPES[kind])
    y = evaluate(lambda v: lerp(v, *ends), share, kind)
    np.testing.assert_allclose(y, ends[0] + (ends[1] - ends[0]) * share, rtol=3e-7)


def test_mask_is_a_hard_sigmoid() -> None:
    """On CPUs, Where takes 20 times as long."""
    text = """<ir_version: 8, opset_import: ["" : 17]> net (float[N] x) => (float[N] y) { y = Identity(x) }"""
    build = Builder(load(parser.parse_model(text)).graph)
    assert mask_above(build.value("x")).tensor.inputs[0].op == "HardSigmoid"
    assert mask_below(build.value("x"), 6.0).tensor.inputs[0].op == "HardSigmoid"
