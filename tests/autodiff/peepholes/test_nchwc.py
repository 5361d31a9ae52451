"""Gradients of convolutions with full blocks of channels take forms of their own, which compute the same."""

from typing import Any

import numpy as np
import pytest

from onnxcam.model.load import load
from onnxcam.rewrite.gradient import SEED, gradient
from tests.autodiff.support.check import check_model, numbers, run
from tests.autodiff.support.sweep import Line, model_of

CHANNELS = 16
ONE = np.eye(CHANNELS, dtype=np.float32)[:, :, None, None]
SILU: list[Line] = [("Sigmoid", "a", "s"), ("Mul", "a s", "b")]
GATE: list[Line] = [
    ("ReduceMean", "b", "m", {"axes": [2, 3]}),
    ("Conv", "m w2", "n"),
    ("Sigmoid", "n", "gate"),
    ("Mul", "b gate", "c"),
]
END: Line = ("Conv", "b w1", "y")
POOLED = ({"Resize", "GlobalAveragePool"}, {"ReduceSum"})
# for known sizes: those that are written, and those that are not
Operators = tuple[set[str], set[str]]
BODIES: dict[str, tuple[list[Line], Operators]] = {
    "silu": ([*SILU, END], (set(), {"HardSigmoid"})),
    "silu, operands swapped": ([SILU[0], ("Mul", "s a", "b"), END], (set(), {"HardSigmoid"})),
    "squeeze": ([*SILU, *GATE, ("Conv", "c w1", "y")], POOLED),
    "squeeze of a pool": (
        [*SILU, ("GlobalAveragePool", "b", "m"), *GATE[1:], ("Conv", "c w1", "y")],
        POOLED,
    ),
    "gate first": ([*SILU, *GATE[:3], ("Mul", "gate b", "c"), ("Conv", "c w1", "y")], POOLED),
    "a factor twice": (
        [("Sigmoid", "a", "s"), ("Mul", "s six", "t"), ("Mul", "s t", "b"), END],
        (set(), set()),
    ),
    "h s + h (s 6)": (
        [("Mul", "a six", "t"), ("Mul", "a t", "b"), ("Mul", "b a", "c"), ("Conv", "c w1", "y")],
        (set(), set()),
    ),
    "relu6": ([("Clip", "a zero six", "b"), END], ({"LeakyRelu"}, set())),
    "hardtanh": ([("Clip", "a minus one", "b"), END], ({"LeakyRelu"}, set())),
    "hard swish": ([("HardSwish", "a", "b"), END], ({"LeakyRelu"}, set())),
}


def model(
    body: list[Line], kernel: Any, size: int | str = 3, batch: int | str = "n", opset: int = 17
) -> Any:
    """x -> Conv -> a -> the body."""
    constants = {
        "w0": kernel,
        "w1": numbers(CHANNELS, CHANNELS, 1, 1, seed=1),
        "w2": numbers(CHANNELS, CHANNELS, 1, 1, seed=2),
        **{name: np.float32(x) for name, x in {"zero": 0, "six": 6, "minus": -1, "one": 1}.items()},
    }
    lines: list[Line] = [("Conv", "x w0", "a"), *body]
    return model_of(lines, constants, {"x": [batch, CHANNELS, size, size]}, opset)


@pytest.mark.parametrize("size", [3, "s"])
@pytest.mark.parametrize("name", BODIES)
def test_gradient_equals_differences(name: str, size: int | str) -> None:
    body, (expected, excluded) = BODIES[name]
    scale = 4 if name in ("relu6", "hard swish") else 1
    kernel = scale * numbers(CHANNELS, CHANNELS, 1, 1)
    x = numbers(2, CHANNELS, 3, 3, seed=3)
    augmented = check_model(model(body, kernel, size), {"x": x}, ["x"], "y")
    operators = {node.op for node in augmented.graph.nodes if node.name.startswith("onnxcam/")}
    if size == 3:
        assert operators >= expected
        assert not operators & excluded


@pytest.mark.parametrize("low", [0.0, -6.0, -1.0])
@pytest.mark.parametrize("high", [6.0, 0.1, 1.0, 1000.0, 1e6])
def test_clip_gradient_is_one_strictly_between_the_bounds(low: float, high: float) -> None:
    """Next to the bounds, too, and for the smallest numbers."""
    bounds = [np.float32(low), np.float32(high)]
    near = [np.nextafter(bound, np.float32(to)) for bound in bounds for to in (-np.inf, np.inf)]
    near = [x for x in near if abs(x) > 1e-37]  # processors may take smaller ones as 0
    others = [0.0, 2.0**-100, 2.0**-99, 1e-30, -1e-30, 1e-7, 3e4, -3e4, high / 2]
    # no numbers of TF32: there are two steps, which are 1 from 2**-100 on
    if high not in (
        0.1,
        1e6,
    ):
        others.append(1e-36)
    points = np.array([*bounds, *near, *others], np.float32)
    x = np.resize(points, (1, CHANNELS, len(points), 1))
    lines: list[Line] = [("Conv", "x w0", "a"), ("Clip", "a low high", "y")]
    constants = {"w0": ONE, "low": bounds[0], "high": bounds[1]}
    proto = model_of(lines, constants, {"x": x.shape})
    feed = {"x": x, SEED: np.ones_like(x)}
    g = run(gradient(load(proto), ["x"], "y").proto(), feed, ["gradient/x"])[0]
    np.testing.assert_array_equal(g, (x > bounds[0]) & (x < bounds[1]))


def test_silu_gradient_far_from_zero_is_that_of_relu() -> None:
    x = np.resize(np.array([-80, -30, 30, 80, 1e4, -1e4], np.float32), (1, CHANNELS, 3, 6))
    feed = {"x": x, SEED: np.ones_like(x)}
    augmented = gradient(load(model(SILU, ONE, "s", 1)), ["x"], "b")
    g = run(augmented.proto(), feed, ["gradient/x"])[0]
    np.testing.assert_allclose(g, x > 0, atol=1e-5)


def test_gate_on_one_cell_is_not_repeated() -> None:
    augmented = gradient(load(model(BODIES["silu"][0], ONE, 1)), ["x"], "y")
    assert "Resize" not in {node.op for node in augmented.graph.nodes}


@pytest.mark.parametrize("name", ["squeeze", "silu", "relu6"])
def test_gradient_at_an_older_opset(name: str) -> None:
    kernel, x = numbers(CHANNELS, CHANNELS, 1, 1), numbers(2, CHANNELS, 3, 3, seed=3)
    check_model(model(BODIES[name][0], kernel, opset=11), {"x": x}, ["x"], "y")
