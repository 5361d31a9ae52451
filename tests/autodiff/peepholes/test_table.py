"""Every pattern fires on its own model, writes what it promises, and computes the same."""

from collections import Counter
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
import pytest

from onnxcam.autodiff.lowering.masks import STEEP, ZERO_OFFSET, ZERO_SLOPE
from onnxcam.autodiff.peepholes.optimize import optimize_gradient
from onnxcam.autodiff.peepholes.table import PEEPHOLES
from onnxcam.model.load import load
from onnxcam.model.model import Model
from tests.autodiff.support.check import assert_valid, numbers, run
from tests.autodiff.support.sweep import Line, lines_of, model_of

CHANNELS, SIZE = 16, 3
SHAPE = (2, CHANNELS, SIZE, SIZE)
FORWARD: list[Line] = [("Conv", "x k0", "a"), ("Sigmoid", "a", "s"), ("Mul", "a s", "silu")]
COMPLEMENT = ("HardSigmoid", "s", "c", {"alpha": -1.0, "beta": 1.0})
G: Line = ("Conv", "h k1", "g")
SMALL_G: Line = ("Conv", "small k1", "g")
STEPS: list[Line] = [
    ("HardSigmoid", "a", "above", {"alpha": ZERO_SLOPE, "beta": ZERO_OFFSET}),
    ("HardSigmoid", "a", "below", {"alpha": -STEEP, "beta": STEEP}),
]
LINE_LINES: list[Line] = [
    ("Conv", "silu minus1 zeros", "line", {"group": CHANNELS}),
    ("Add", "line a", "slope"),
    ("Mul", "s slope", "b"),
    ("Mul", "h s", "first"),
    ("Mul", "h b", "second"),
    ("Add", "first second", "y"),
]
CASES: dict[str, list[tuple[list[Line], str]]] = {  # what is written, and what it becomes
    "complement": [([("Sub", "one s", "y")], "HardSigmoid")],
    "step_between": [
        ([*STEPS, ("Mul", "above below", "y")], "Conv LeakyRelu HardSigmoid"),
        ([*STEPS, ("Mul", "below above", "y")], "Conv LeakyRelu HardSigmoid"),
    ],
    "masked_line": [
        (
            [
                STEPS[0],
                ("HardSigmoid", "above", "share", {"alpha": 0.25 + 2**-25, "beta": -(2**-25)}),
                ("Mul", "a share", "product"),
                ("Add", "s product", "y"),
            ],
            "HardSigmoid Mul Conv Add",
        )
    ],
    "gate_slope": [
        (
            [
                *(COMPLEMENT, ("Mul", "h a", "ha"), ("Mul", "s c", "t"), ("Mul", "ha t", "u")),
                ("Sub", "u silu", "y"),
            ],
            "Conv Add Mul Mul Sub",
        ),
        (
            [
                *(("Sub", "one s", "c"), ("Mul", "a h", "ah"), ("Mul", "c s", "t")),
                *(("Mul", "t ah", "u"), ("Sub", "u silu", "y")),
            ],
            "Conv Add Mul Mul Sub",
        ),
        (
            [
                *(("Mul", "x s", "xs"), COMPLEMENT, ("Mul", "h x", "hx"), ("Mul", "s c", "t")),
                *(("Mul", "hx t", "u"), ("Sub", "u xs", "y")),
            ],
            "Mul HardSigmoid Mul Mul Sub",
        ),
    ],
    "add_one_to_line": [(LINE_LINES, "Conv Add Mul Mul")],
    "factor_out": [([("Mul", "h a", "u"), ("Mul", "s h", "v"), ("Add", "u v", "y")], "Add Mul")],
    "scale_kernel": [
        ([G, ("Mul", "g per_channel", "y")], "Conv"),
        ([G, ("Mul", "two g", "y")], "Conv"),
    ],
    "scale_masked_kernel": [
        ([G, ("Mul", "g s", "t"), ("Mul", "t per_channel", "y")], "Conv Mul"),
        ([G, ("Mul", "s g", "t"), ("Mul", "per_channel t", "y")], "Conv Mul"),
    ],
    "divide_kernel": [([G, ("Div", "g two", "y")], "Conv")],
    "repeat_scaled": [([SMALL_G, ("Mul", "g ninths", "y")], "Conv Resize")],
    "repeat_masked": [
        (
            [
                SMALL_G,
                ("Conv", "small k0", "t"),
                ("Sigmoid", "t", "mask"),
                ("Mul", "g mask", "u"),
                ("Mul", "u ninths", "y"),
            ],
            "Conv Conv Sigmoid Mul Resize",
        )
    ],
    "repeat_expanded": [([SMALL_G, ("Expand", "g shape", "y")], "Conv Resize")],
    "repeat_gate": [
        ([G, ("Conv", "small k1", "f"), ("Mul", "g f", "y")], "Conv Conv Resize Mul"),
        ([G, ("Conv", "small k1", "f"), ("Mul", "f g", "y")], "Conv Conv Resize Mul"),
    ],
    "sum_by_pooling": [([G, ("ReduceSum", "g axes", "y")], "Conv GlobalAveragePool Conv")],
}
PAIRS = [(name, *case) for name in CASES for case in CASES[name]]


def model_with_gradient(
    lines: list[Line], opset: int = 17, forward: list[Line] = FORWARD
) -> tuple[Model, int]:
    """A model of the forward lines, and then of lines that stand for a gradient; `y` of both is returned."""
    constants = {
        "k0": numbers(CHANNELS, CHANNELS, 1, 1, seed=1),
        "k1": numbers(CHANNELS, CHANNELS, 1, 1, seed=2),
        "minus1": np.full((CHANNELS, 1, 1, 1), -1, np.float32),
        "zeros": np.zeros(CHANNELS, np.float32),
        "per_channel": numbers(CHANNELS, 1, 1, seed=3),
        "ninths": np.full((1, 1, SIZE, SIZE), 1 / 9, np.float32),
        "one": np.float32(1),
        "two": np.float32(2),
        "axes": np.array([2, 3]),
        "shape": np.array(SHAPE),
        "other_axes": np.array([1, 2]),
        "cells": numbers(1, 1, SIZE, SIZE, seed=4),
    }
    inputs = {"x": SHAPE, "h": SHAPE, "small": (2, CHANNELS, 1, 1)}
    model = load(model_of([*forward, *lines], constants, inputs, opset))
    names = [line[2] for line in forward]
    start = sum(node.outputs[0].name in names for node in model.graph.nodes)
    y = model.graph.outputs[0]
    named = gs.Variable("gradient", y.dtype, y.shape)
    model.graph.nodes.append(gs.Node("Identity", "gradient", {}, [y], [named]))
    model.graph.outputs = [named]
    return model, start


def values(model: Model) -> Any:
    feed = {
        "x": numbers(*SHAPE, seed=5),
        "h": numbers(*SHAPE, seed=6),
        "small": numbers(2, CHANNELS, 1, 1),
    }
    return run(model.proto(), feed, ["gradient"])[0]


@pytest.mark.parametrize(("name", "lines", "after"), PAIRS, ids=[name for name, *_ in PAIRS])
def test_pattern_fires_on_its_model(name: str, lines: list[Line], after: str) -> None:
    model, start = model_with_gradient(lines)
    expected = values(model)
    only = [peephole for peephole in PEEPHOLES if peephole.rewrite.__name__ == name]
    optimize_gradient(model.graph, start, only)
    model.graph.cleanup()
    operators = Counter(
        node.op for node in model.graph.nodes if node.name not in ("a", "s", "silu")
    )
    assert operators - Counter(["Identity"]) == Counter(after.split())
    assert_valid(model.proto())
    np.testing.assert_allclose(values(model), expected, rtol=1e-5, atol=1e-6)


def test_every_rewrite_has_cases() -> None:
    assert {peephole.rewrite.__name__ for peephole in PEEPHOLES} == set(CASES)


def test_sum_by_pooling_reads_axes_from_an_attribute() -> None:
    model, start = model_with_gradient([G, ("ReduceSum", "g", "y", {"axes": [2, 3]})], opset=11)
    optimize_gradient(model.graph, start)
    assert "GlobalAveragePool" in {node.op for node in model.graph.nodes}


UNCHANGED: dict[str, list[Line]] = {
    "sum over other axes": [G, ("ReduceSum", "g other_axes", "y")],
    "sum without kept axes": [G, ("ReduceSum", "g axes", "t", {"keepdims": 0}), ("Neg", "t", "y")],
    "sum outside the layout": [("Neg", "h", "g"), ("ReduceSum", "g axes", "y")],
    "subtraction from another number": [("Sub", "two s", "y")],
    "subtraction of no sigmoid": [("Sub", "one a", "y")],
    "convolution with two readers": [G, ("Mul", "g per_channel", "t"), ("Add", "t g", "y")],
    "factor per cell": [G, ("Mul", "g cells", "y")],
    "bounds of no V": [
        STEPS[0],
        ("HardSigmoid", "a", "b", {"alpha": -STEEP, "beta": 0.1 * STEEP}),
        ("Mul", "above b", "y"),
    ],
    "two steps up": [
        STEPS[0],
        ("HardSigmoid", "a", "b", {"alpha": STEEP, "beta": -STEEP}),
        ("Mul", "above b", "y"),
    ],
    "no product in the model": [
        COMPLEMENT,
        ("Mul", "h x", "hx"),
        ("Mul", "s c", "t"),
        ("Mul", "hx t", "y"),
    ],
    "products without a common factor": [
        ("Mul", "h a", "t"),
        ("Mul", "s x", "u"),
        ("Add", "t u", "y"),
    ],
    "uneven broadcast": [SMALL_G, ("Mul", "g cells", "y")],
}


@pytest.mark.parametrize("name", UNCHANGED)
def test_gradient_without_a_match_stays_the_same(name: str) -> None:
    model, start = model_with_gradient(UNCHANGED[name])
    before = lines_of(model.graph.nodes)
    optimize_gradient(model.graph, start)
    assert lines_of(model.graph.nodes) == before


def test_product_that_is_written_later_is_not_used() -> None:
    """The nodes of a graph are in order: the product of a gate must come before its gradient."""
    lines: list[Line] = [
        *(COMPLEMENT, ("Mul", "h x", "hx"), ("Mul", "s c", "t"), ("Mul", "hx t", "u")),
        *(("Mul", "x s", "later"), ("Sub", "u later", "y")),
    ]
    model, start = model_with_gradient(lines)
    expected = values(model)
    optimize_gradient(model.graph, start)
    assert_valid(model.proto())
    np.testing.assert_array_equal(values(model), expected)
