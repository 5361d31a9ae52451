"""What comes out of convolutions of whole blocks of channels has forms of its own: they say the same."""

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxcam.model.load import load
from onnxcam.rewrite.gradient import SEED, gradient
from tests.autodiff.support.check import check_model, numbers, of_graph, run, with_output_types

CHANNELS = 16
ONE = np.eye(CHANNELS, dtype=np.float32)[:, :, None, None]
SILU = [("Sigmoid", "a", "s"), ("Mul", "a s", "b")]
GATE = [
    ("ReduceMean", "b", "m", {"axes": [2, 3]}),
    ("Conv", "m w2", "n"),
    ("Sigmoid", "n", "gate"),
    ("Mul", "b gate", "c"),
]
END, SPREAD = ("Conv", "b w1", "y"), ({"Resize", "GlobalAveragePool"}, {"ReduceSum"})
Ops = tuple[set[str], set[str]]  # that are written for known sizes, and that are not
BODIES: dict[str, tuple[list[Any], Ops]] = {
    "silu": ([*SILU, END], (set(), {"HardSigmoid"})),
    "silu turned": ([SILU[0], ("Mul", "s a", "b"), END], (set(), {"HardSigmoid"})),
    "squeeze": ([*SILU, *GATE, ("Conv", "c w1", "y")], SPREAD),
    "squeeze of a pool": (
        [*SILU, ("GlobalAveragePool", "b", "m"), *GATE[1:], ("Conv", "c w1", "y")],
        SPREAD,
    ),
    "gate before": ([*SILU, *GATE[:3], ("Mul", "gate b", "c"), ("Conv", "c w1", "y")], SPREAD),
    "a factor twice": (
        [("Sigmoid", "a", "s"), ("Mul", "s six", "t"), ("Mul", "s t", "b"), END],
        (set(), set()),
    ),
    "h s + h (s 6)": (
        [("Mul", "a six", "t"), ("Mul", "a t", "b"), ("Mul", "b a", "c"), ("Conv", "c w1", "y")],
        (set(), set()),
    ),
    "relu6": ([("Clip", "a zero six", "b"), END], ({"LeakyRelu"}, set())),
    "tanh": ([("Clip", "a minus one", "b"), END], ({"LeakyRelu"}, set())),
    "hard swish": ([("HardSwish", "a", "b"), END], ({"LeakyRelu"}, set())),
}


def model(body: list[Any], kernel: Any, size: Any = 3, batch: Any = "n", opset: int = 17) -> Any:
    """x -> Conv -> a -> the body -> y."""
    constants = {
        "w0": kernel,
        "w1": numbers(CHANNELS, CHANNELS, 1, 1, seed=1),
        "w2": numbers(CHANNELS, CHANNELS, 1, 1, seed=2),
        **{k: np.float32(v) for k, v in {"zero": 0, "six": 6, "minus": -1, "one": 1}.items()},
    }
    lines = [("Conv", "x w0", "a"), *body]
    nodes = [
        helper.make_node(op, read.split(), [written], name=written, **(more[0] if more else {}))
        for op, read, written, *more in lines
    ]
    shape = [batch, CHANNELS, size, size]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    y = helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, [None] * 4)
    stored = [numpy_helper.from_array(np.asarray(each), k) for k, each in constants.items()]
    return with_output_types(of_graph(helper.make_graph(nodes, "net", [x], [y], stored), opset))


@pytest.mark.parametrize("size", [3, "s"])
@pytest.mark.parametrize("name", BODIES)
def test_against_differences(name: str, size: Any) -> None:
    body, (there, gone) = BODIES[name]
    scale = 4 if name in ("relu6", "hard swish") else 1
    kernel = scale * numbers(CHANNELS, CHANNELS, 1, 1)
    x = numbers(2, CHANNELS, 3, 3, seed=3)
    found = check_model(model(body, kernel, size), {"x": x}, ["x"], "y")
    written = {each.op for each in found.graph.nodes if each.name.startswith("onnxcam/")}
    if size == 3:
        assert written >= there
        assert not written & gone


@pytest.mark.parametrize("low", [0.0, -6.0, -1.0])
@pytest.mark.parametrize("high", [6.0, 0.1, 1.0, 1000.0, 1e6])
def test_open_strictly_between_the_bounds(low: float, high: float) -> None:
    """Next to the bounds, too, and for the smallest numbers."""
    bounds = [np.float32(low), np.float32(high)]
    near = [np.nextafter(each, np.float32(to)) for each in bounds for to in (-np.inf, np.inf)]
    near = [each for each in near if abs(each) > 1e-37]  # processors may take smaller ones as 0
    more = [0.0, 2.0**-100, 2.0**-99, 1e-30, -1e-30, 1e-7, 3e4, -3e4, high / 2]
    more += (
        [1e-36] if high not in (0.1, 1e6) else []
    )  # no number of TF32: two steps, open from 2**-100 on
    points = np.array([*bounds, *near, *more], np.float32)
    x = np.resize(points, (1, CHANNELS, len(points), 1))
    nodes = [
        helper.make_node("Conv", ["x", "w0"], ["a"]),
        helper.make_node("Clip", ["a", "low", "high"], ["y"]),
    ]
    stored = [
        numpy_helper.from_array(np.asarray(each), name)
        for name, each in {"w0": ONE, "low": bounds[0], "high": bounds[1]}.items()
    ]
    ends = [helper.make_tensor_value_info(each, TensorProto.FLOAT, x.shape) for each in "xy"]
    proto = of_graph(helper.make_graph(nodes, "net", ends[:1], ends[1:], stored), 17)
    feed = {"x": x, SEED: np.ones_like(x)}
    found = run(gradient(load(proto), ["x"], "y").proto(), feed, ["gradient/x"])[0]
    np.testing.assert_array_equal(found, (x > bounds[0]) & (x < bounds[1]))


def test_far_from_zero_silu_is_a_rectifier() -> None:
    x = np.resize(np.array([-80, -30, 30, 80, 1e4, -1e4], np.float32), (1, CHANNELS, 3, 6))
    net = model(SILU, ONE, "s", 1)
    feed = {"x": x, SEED: np.ones_like(x)}
    found = run(gradient(load(net), ["x"], "b").proto(), feed, ["gradient/x"])[0]
    np.testing.assert_allclose(found, x > 0, atol=1e-5)


def test_a_gate_on_one_cell_is_not_spread() -> None:
    found = gradient(load(model(BODIES["silu"][0], ONE, 1)), ["x"], "y")
    assert "Resize" not in {each.op for each in found.graph.nodes}


@pytest.mark.parametrize("name", ["squeeze", "silu", "relu6"])
def test_with_an_older_opset(name: str) -> None:
    kernel, x = numbers(CHANNELS, CHANNELS, 1, 1), numbers(2, CHANNELS, 3, 3, seed=3)
    check_model(model(BODIES[name][0], kernel, opset=11), {"x": x}, ["x"], "y")
