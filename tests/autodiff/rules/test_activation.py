"""Every activation on both sides of its kinks, and at them."""

from typing import Any

import numpy as np
import pytest
from onnx import helper, parser

from onnxcam.model.load import load
from onnxcam.rewrite.gradient import SEED, gradient
from tests.autodiff.support.check import check_model, check_vjp, numbers, one_node_model, run

SHAPES: list[tuple[str, int, dict[str, Any]]] = [
    ("Relu", 17, {}),
    ("LeakyRelu", 17, {}),
    ("LeakyRelu", 17, {"alpha": 0.3}),
    ("LeakyRelu", 17, {"alpha": -0.3}),
    ("ThresholdedRelu", 17, {}),
    ("ThresholdedRelu", 17, {"alpha": 0.25}),
    ("Elu", 17, {}),
    ("Elu", 17, {"alpha": 0.4}),
    ("Selu", 17, {}),
    ("Selu", 17, {"alpha": 1.1, "gamma": 2.0}),
    ("Celu", 17, {}),
    ("Celu", 17, {"alpha": 0.4}),
    ("HardSigmoid", 17, {}),
    ("HardSigmoid", 17, {"alpha": 0.5, "beta": 0.3}),
    ("HardSwish", 17, {}),
    ("Shrink", 17, {"lambd": 0.9, "bias": 0.4}),
    ("Sigmoid", 17, {}),
    ("Softplus", 17, {}),
    ("Softsign", 17, {}),
    ("Mish", 18, {}),
    ("Gelu", 20, {}),
    ("Gelu", 20, {"approximate": "tanh"}),
    ("Swish", 24, {}),
    ("Swish", 24, {"alpha": 1.7}),
]


@pytest.mark.parametrize("dynamic", [(), (0, 1)], ids=str)
@pytest.mark.parametrize(("op", "opset", "attributes"), SHAPES, ids=str)
def test_activation(
    op: str, opset: int, attributes: dict[str, Any], dynamic: tuple[int, ...]
) -> None:
    x = numbers(3, 12, low=-5.0, high=5.0)
    check_vjp(op, x, opset=opset, dynamic=dynamic, **attributes)


@pytest.mark.parametrize("opset", [7, 9, 16])
@pytest.mark.parametrize("slope", [(1,), (4, 1, 1), (4, 3, 2)])
def test_prelu(slope: tuple[int, ...], opset: int) -> None:
    x, a = numbers(2, 4, 3, 2), numbers(*slope, seed=1)
    check_vjp("PRelu", x, a, wrt=(0, 1), opset=opset)


@pytest.mark.parametrize(
    ("op", "x", "expected"),
    [
        ("Relu", [-1, 0, 2], [0, 0, 1]),
        ("LeakyRelu", [-1, 0, 2], [0.01, 0.01, 1]),
        ("Abs", [-1, 0, 2], [-1, 0, 1]),
        ("HardSwish", [-3, 0, 3], [0, 0.5, 1]),
    ],
)
def test_gradient_at_the_kink_is_torchs(op: str, x: list[float], expected: list[float]) -> None:
    """PyTorch's value where there is no derivative."""
    array = np.array(x, np.float32)
    model = load(one_node_model(helper.make_node(op, ["x"], ["y"]), {"x": array}, {}, 17))
    feed = {"x": array, SEED: np.ones(3, np.float32)}
    g = run(gradient(model, ["x"], "y").proto(), feed, ["gradient/x"])[0]
    np.testing.assert_allclose(g, expected, rtol=1e-6)


@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax"])
@pytest.mark.parametrize("axis", [None, 0, 1, 2, -1, -2])
@pytest.mark.parametrize("opset", [7, 11, 13, 17])
def test_softmax(op: str, axis: int | None, opset: int) -> None:
    if opset < 11 and axis is not None and axis < 0:
        axis += 3  # no negative axes before opset 11
    attributes: dict[str, Any] = {} if axis is None else {"axis": axis}
    check_vjp(op, numbers(2, 3, 4, low=-2.0, high=2.0), opset=opset, **attributes)
    check_vjp(op, numbers(2, 3, 4, low=-2.0, high=2.0), opset=opset, dynamic=(0, 2), **attributes)


@pytest.mark.parametrize("bounds", [{}, {"min": -0.5}, {"max": 0.5}, {"min": -0.5, "max": 0.5}])
def test_clip_with_bounds_as_attributes(bounds: dict[str, Any]) -> None:
    check_vjp("Clip", numbers(3, 4), opset=7, **bounds)


@pytest.mark.parametrize("opset", [11, 12, 13])
@pytest.mark.parametrize(
    "bounds", [(), (-0.5,), (None, 0.5), (-0.5, 0.5)], ids=["none", "low", "high", "both"]
)
def test_clip_with_bounds_as_inputs(bounds: tuple[float | None, ...], opset: int) -> None:
    arrays = [None if bound is None else np.array(bound, np.float32) for bound in bounds]
    check_vjp("Clip", numbers(3, 4), *arrays, opset=opset, dynamic=(0,))


def test_clip_has_no_gradient_at_its_bounds() -> None:
    """As relu6 and hardtanh are in torch."""
    x = np.array([-1, 0, 1, 6, 7], np.float32)
    node = helper.make_node("Clip", ["x", "low", "high"], ["y"])
    fixed = {"low": np.array(0, np.float32), "high": np.array(6, np.float32)}
    model = gradient(load(one_node_model(node, {"x": x}, fixed, 17)), ["x"], "y")
    g = run(model.proto(), {"x": x, SEED: np.ones(5, np.float32)}, ["gradient/x"])[0]
    np.testing.assert_array_equal(g, [0, 0, 1, 0, 0])


GATED = """<ir_version: 8, opset_import: ["" : 17]> net (float[N, 3] x) => (float[N, 3] y) {{
    t = Tanh(x)
    s = Sigmoid(t)
    {body} }}"""


@pytest.mark.parametrize(
    "body",
    [
        "y = Mul(t, s)",
        "y = Mul(s, t)",
        "p = Mul(t, s) y = Mul(p, x)",
        "p = Mul(t, s) y = Add(p, s)",
        "p = Mul(t, s) q = Mul(x, s) y = Mul(p, q)",
        "p = Mul(x, t) y = Mul(p, s)",
        "p = Mul(s, t) q = Mul(t, t) r = Mul(q, s) y = Add(p, r)",
        "y = Mul(s, s)",
    ],
)
@pytest.mark.parametrize("wrt", ["x", "t", "s"])
def test_gradient_of_a_gate_equals_differences(body: str, wrt: str) -> None:
    """SiLU as exporters write it, and similar products: at the input, and at the gate itself."""
    proto = parser.parse_model(GATED.format(body=body))
    x = numbers(2, 3, low=-2.0, high=2.0)
    check_model(proto, {"x": x}, ["x"], "y")
    g = run(gradient(load(proto), [wrt], "y").proto(), {"x": x, SEED: seed()}, [f"gradient/{wrt}"])
    np.testing.assert_allclose(g[0], central_differences(body, x, wrt), rtol=1e-4, atol=1e-6)


def seed() -> Any:
    return numbers(2, 3, seed=7)


def central_differences(body: str, x: Any, wrt: str) -> Any:
    """Of the formula in float64; t or s is moved by itself if the gradient is that of t or s."""

    def output(shift: Any) -> Any:
        values = {"x": x.astype(np.float64)}
        values["t"] = np.tanh(values["x"]) if wrt != "x" else np.tanh(values["x"] + shift)
        if wrt == "x":
            values["x"] = values["x"] + shift
        values["t"] = values["t"] + (shift if wrt == "t" else 0)
        values["s"] = 1 / (1 + np.exp(-values["t"])) + (shift if wrt == "s" else 0)
        for line in body.split(") "):
            name, call = line.split(" = ")
            operator, operands = call.rstrip(")").split("(")
            a, b = (values[operand] for operand in operands.split(", "))
            values[name] = a * b if operator == "Mul" else a + b
        return values["y"]

    step = 1e-6
    return seed() * (output(step) - output(-step)) / (2 * step)


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0, 1.5])
def test_leaky_relu_slope_is_exact(alpha: float) -> None:
    g = gradient_at_points("LeakyRelu", [-2, -1e-30, 0, 1e-30, 2], alpha=alpha)
    np.testing.assert_allclose(g, np.array([alpha, alpha, alpha, 1, 1], np.float32), rtol=2e-7)


def gradient_at_points(op: str, x: list[float], **attributes: Any) -> Any:
    array = np.array(x, np.float32)
    model = load(
        one_node_model(helper.make_node(op, ["x"], ["y"], **attributes), {"x": array}, {}, 17)
    )
    feed = {"x": array, SEED: np.ones(len(x), np.float32)}
    return run(gradient(model, ["x"], "y").proto(), feed, ["gradient/x"])[0]
