"""Masks equal comparisons, also next to the bound."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from onnx import parser

from onnxcam.autodiff.lowering.masks import lerp, mask_above, mask_below
from onnxcam.graph.tracing import Builder, Value
from onnxcam.model.load import load
from onnxcam.model.model import Model
from tests.autodiff.support.check import run

BOUNDS = (0.0, 6.0, -3.0, 0.1, 1e-3, 1000.0)
EXTREME_BOUNDS = (1e-40, -1e-40, 1e-30, -1e-30, 1e-20, 1e8, -1e9, 3e38)
TYPES = {"float": np.float32, "float16": np.float16, "double": np.float64}


def evaluate(formula: Callable[[Value], Value], x: Any, kind: str = "float") -> Any:
    model = written(formula, kind)
    return run(model.proto(), {"x": x}, [model.graph.outputs[0].name])[0]


def written(formula: Callable[[Value], Value], kind: str = "float") -> Model:
    text = f"""<ir_version: 8, opset_import: ["" : 17]>
    net ({kind}[N] x) => ({kind}[N] y) {{ y = Identity(x) }}"""
    model = load(parser.parse_model(text))
    model.graph.outputs = [formula(Builder(model.graph).value("x")).tensor]
    return model


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


@pytest.mark.parametrize("bound", [*BOUNDS, *EXTREME_BOUNDS])
def test_mask_at_extreme_numbers_equals_comparison(bound: float) -> None:
    there = np.float32(bound)
    near = [np.nextafter(there, np.float32(side)) for side in (-np.inf, np.inf)]
    x = np.array([*near, there, 0, 2**-100, -(2**-100), 1e9, -1e9, 3e38, -3e38], np.float32)
    x = np.array([*x[np.abs(x) >= 2**-100], 0, there, np.inf, -np.inf], np.float32)
    np.testing.assert_array_equal(evaluate(lambda v: mask_above(v, bound), x), x > there)
    np.testing.assert_array_equal(evaluate(lambda v: mask_below(v, bound), x), x < there)


def test_mask_at_zero_is_zero_for_subnormal_numbers() -> None:
    x = np.array([0.0, -0.0, 1e-45, -1e-45, 1e-39, -1e-39, 2**-101, -(2**-101)], np.float32)
    for mask in (mask_above, mask_below):
        np.testing.assert_array_equal(evaluate(partial(mask, bound=0.0), x), np.zeros_like(x))


def test_mask_of_nan_equals_comparison_or_nan() -> None:
    """A NaN of the model goes on, as it does where a mask is a factor of it."""
    mask = evaluate(mask_above, np.array([np.nan, 1.0], np.float32))
    assert mask[1] == 1
    assert np.isnan(mask[0]) or mask[0] == 0


@pytest.mark.parametrize("bound", [*BOUNDS, *EXTREME_BOUNDS, -0.0])
def test_step_has_no_offset_of_zero(bound: float) -> None:
    """OpenVINO computes the offset 0 as 0.5, the default."""
    for formula in (
        lambda v: mask_above(v, bound),
        lambda v: mask_below(v, bound),
        lambda v: lerp(mask_above(v), 0.0, 1 / 6),
        lambda v: lerp(mask_above(v), 0.0, 1.0),
        lambda v: lerp(mask_above(v), 0.0, 0.0),
    ):
        nodes = written(formula).graph.nodes
        assert all(node.attrs["beta"] != 0 for node in nodes if node.op == "HardSigmoid")


@pytest.mark.parametrize("level", [0.0, 1e-40, 1e-30, 1e-7, 0.01, 1 / 6, 0.25, 0.3, 1.0])
def test_lerp_from_zero_is_exact_at_both_ends(level: float) -> None:
    share = np.array([0, 1], np.float32)
    np.testing.assert_array_equal(
        evaluate(lambda v: lerp(v, 0.0, level), share), share * np.float32(level)
    )


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
