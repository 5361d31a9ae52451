"""Elementwise operators, with broadcasting."""

from itertools import product

import numpy as np
import pytest
from onnx import helper, numpy_helper

from onnxcam.errors import ModelError
from onnxcam.model.load import load
from onnxcam.rewrite.gradient import SEED, gradient
from tests.autodiff.support.check import check_vjp, model_from_graph, numbers, one_node_model, run

RANGES = {
    **dict.fromkeys(("Neg", "Abs", "Exp", "Erf", "Sin", "Cos", "Tanh", "Sinh", "Cosh"), (-2, 2)),
    **dict.fromkeys(("Atan", "Asinh", "Identity"), (-3, 3)),
    **dict.fromkeys(("Log", "Sqrt", "Reciprocal"), (0.3, 3)),
    **dict.fromkeys(("Asin", "Acos", "Atanh"), (-0.8, 0.8)),
    "Tan": (-1, 1),
    "Acosh": (1.2, 4),
}
BROADCASTS = [
    ((2, 3, 4), (2, 3, 4)),
    ((2, 3, 4), (3, 1)),
    ((3, 1), (2, 3, 4)),
    ((2, 1, 4), (1, 3, 1)),
    ((2, 3, 4), ()),
    ((), (3, 4)),
    ((1, 1), (4,)),
    ((4, 1), (5,)),
    ((1, 3, 1, 1), (2, 3, 2, 2)),
]
SIZES = [((), True), ((0, 1, 2, 3), True), ((0, 1, 2, 3), False)]


@pytest.mark.parametrize("dynamic", [(), (0, 1)], ids=str)
@pytest.mark.parametrize("op", RANGES)
def test_unary_operator(op: str, dynamic: tuple[int, ...]) -> None:
    low, high = RANGES[op]
    check_vjp(op, numbers(3, 8, low=low, high=high), dynamic=dynamic)


@pytest.mark.parametrize(("sizes", "shapes"), list(product(SIZES, BROADCASTS)), ids=str)
@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div", "Pow", "Max", "Min", "Sum", "Mean"])
def test_binary_operator_with_broadcasting(
    op: str, sizes: tuple[tuple[int, ...], bool], shapes: tuple[tuple[int, ...], ...]
) -> None:
    """Also with axes of unknown size, some of which turn out to be 1 and broadcast."""
    (dynamic, name_by_size), (a, b) = sizes, shapes
    arrays = numbers(*a, low=0.5, high=1.5), numbers(*b, seed=1, low=0.4, high=1.6)
    check_vjp(op, *arrays, wrt=(0, 1), dynamic=dynamic, name_by_size=name_by_size)


@pytest.mark.parametrize("opset", [7, 12, 13, 17])
@pytest.mark.parametrize("op", ["Max", "Min", "Sum", "Mean"])
@pytest.mark.parametrize("count", [1, 3, 4])
def test_variadic_operator(op: str, count: int, opset: int) -> None:
    shapes = [(2, 3), (3,), (2, 1), (1, 1)][:count]
    arrays = [numbers(*shape, seed=i, high=1.0 + i / 7) for i, shape in enumerate(shapes)]
    opset = max(opset, 8)  # no broadcasting of these before
    check_vjp(op, *arrays, wrt=range(count), opset=opset)


@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize(
    ("a", "b", "c"), [((2, 3), (2, 3), (2, 3)), ((3,), (2, 1), (1, 3)), ((), (2, 3), (2, 1))]
)
def test_where(
    sizes: tuple[tuple[int, ...], bool],
    a: tuple[int, ...],
    b: tuple[int, ...],
    c: tuple[int, ...],
) -> None:
    condition = numbers(*c, seed=5) > 0
    dynamic, name_by_size = sizes
    check_vjp(
        "Where",
        condition,
        numbers(*a),
        numbers(*b, seed=1),
        wrt=(1, 2),
        dynamic=dynamic,
        name_by_size=name_by_size,
    )


@pytest.mark.parametrize("exponent", [2.0, 3.0, 0.5, -1.0])
def test_power_with_constant_exponent(exponent: float) -> None:
    check_vjp("Pow", numbers(3, 4, low=0.5, high=2.0), np.float32(exponent))
    check_vjp("Pow", numbers(3, 4, low=0.5, high=2.0), np.array([int(exponent) or 1], np.int64))


@pytest.mark.parametrize("op", ["Sqrt", "Pow"])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_infinite_slope_keeps_cotangent_of_zero(op: str, dtype: type[np.floating]) -> None:
    """y = |x| written as the root of a square: its slope at 0 is infinite, which is no matter
    where the seed is 0.
    """
    nodes = [
        helper.make_node("Mul", ["x", "x"], ["square"]),
        helper.make_node(op, ["square", "half"][: 1 + (op == "Pow")], ["y"]),
    ]
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    x, y = (helper.make_tensor_value_info(name, kind, [3]) for name in "xy")
    half = numpy_helper.from_array(np.array(0.5, dtype), "half")
    model = gradient(
        load(model_from_graph(helper.make_graph(nodes, "g", [x], [y], [half]), 17)), ["x"], "y"
    )
    for seed, expected in (([0, 1, 1], [0, -1, 1]), ([1, 1, 0], [np.nan, -1, 0])):
        feed = {
            "x": np.array([0, -2, 0.0625], dtype),
            SEED: np.array(seed, np.float32 if dtype == np.float16 else dtype),
        }
        (slope,) = run(model.proto(), feed, ["gradient/x"])
        np.testing.assert_allclose(slope, expected, rtol=1e-3)


def test_square_of_negative_numbers() -> None:
    check_vjp("Pow", numbers(3, 4), np.float32(2.0))


@pytest.mark.parametrize("op", ["Max", "Min"])
def test_equal_operands_share_the_gradient(op: str) -> None:
    ones = {"a": np.ones(2, np.float32), "b": np.array([1, 1], np.float32)}
    node = helper.make_node(op, ["a", "b"], ["y"])
    model = gradient(load(one_node_model(node, ones, {}, 17)), ["a", "b"], "y")
    g = run(
        model.proto(), {**ones, SEED: np.array([1, 3], np.float32)}, ["gradient/a", "gradient/b"]
    )
    np.testing.assert_array_equal(g, [[0.5, 1.5], [0.5, 1.5]])


@pytest.mark.parametrize("op", ["Floor", "Ceil", "Round"])
def test_step_function_blocks_the_gradient(op: str) -> None:
    node = helper.make_node(op, ["x"], ["y"])
    model = load(one_node_model(node, {"x": numbers(3)}, {}, 17))
    with pytest.raises(ModelError, match="no gradient reaches"):
        gradient(model, ["x"], "y")


@pytest.mark.parametrize("opset", [7, 10, 12, 13, 22])
def test_dropout_in_inference_mode(opset: int) -> None:
    check_vjp("Dropout", numbers(3, 4), opset=opset, outputs=1 if opset < 10 else 2)


def test_dropout_in_training_mode_is_refused() -> None:
    with pytest.raises(ModelError, match="inference mode"):
        check_vjp("Dropout", numbers(3, 4), np.float32(0.5), np.array(True), outputs=2)


def test_cast_like() -> None:
    check_vjp("CastLike", numbers(3, 4), numbers(1))


@pytest.mark.parametrize("dynamic", [(), (0, 1)], ids=str)
def test_modulus(dynamic: tuple[int, ...]) -> None:
    a, b = numbers(3, 4, low=-5, high=5), numbers(3, 4, seed=1, low=0.6, high=1.9)
    check_vjp("Mod", a, b, wrt=(0, 1), fmod=1, dynamic=dynamic)
    check_vjp("Mod", a, -b[0], wrt=(0, 1), fmod=1)
