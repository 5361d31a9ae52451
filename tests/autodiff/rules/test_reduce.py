"""Reductions over every choice of axes, as each opset passes them."""

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from onnxcam.errors import ModelError
from onnxcam.model.load import load
from onnxcam.rewrite.gradient import SEED, gradient
from tests.autodiff.support.check import check_model, check_vjp, numbers, one_node_model, run

OPERATORS = [
    *("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd"),
    *("ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceSumSquare"),
]
INPUT_FROM = {"ReduceSum": 13}  # axes are an input from 13, of the others from 18
AXES = [None, (0,), (1,), (-1,), (0, 2), (-2, 0), (2, 0, 1)]


def check(
    op: str,
    opset: int,
    axes: tuple[int, ...] | None,
    dynamic: tuple[int, ...] = (),
    **attributes: Any,
) -> None:
    x = numbers(2, 3, 4, low=0.4, high=1.8)
    as_input = opset >= INPUT_FROM.get(op, 18)
    if axes is None:
        check_vjp(op, x, opset=opset, dynamic=dynamic, **attributes)
    elif as_input:
        check_vjp(op, x, np.array(axes, np.int64), opset=opset, dynamic=dynamic, **attributes)
    else:
        check_vjp(op, x, opset=opset, dynamic=dynamic, axes=list(axes), **attributes)


@pytest.mark.parametrize("keepdims", [0, 1])
@pytest.mark.parametrize("axes", AXES, ids=str)
@pytest.mark.parametrize("opset", [11, 13, 18])
@pytest.mark.parametrize("op", OPERATORS)
def test_reduction(op: str, opset: int, axes: tuple[int, ...] | None, keepdims: int) -> None:
    check(op, opset, axes, keepdims=keepdims)


@pytest.mark.parametrize("axes", [None, (0,), (1, 2)], ids=str)
@pytest.mark.parametrize("keepdims", [0, 1])
@pytest.mark.parametrize("op", OPERATORS)
def test_reduction_of_dynamic_sizes(op: str, axes: tuple[int, ...] | None, keepdims: int) -> None:
    check(op, 18, axes, (0, 1, 2), keepdims=keepdims)


@pytest.mark.parametrize("op", OPERATORS)
@pytest.mark.parametrize("axes", [None, ()], ids=str)
def test_reduction_over_no_axes(op: str, axes: tuple[int, ...] | None) -> None:
    """With noop_with_empty_axes nothing is reduced, but squares and logarithms are still taken."""
    check(op, 18, axes, noop_with_empty_axes=1)


@pytest.mark.parametrize("op", ["ReduceMax", "ReduceMin", "GlobalMaxPool"])
def test_equal_extrema_share_the_gradient(op: str) -> None:
    x = np.ones((1, 1, 4), np.float32)
    node = helper.make_node(op, ["x"], ["y"])
    model = gradient(load(one_node_model(node, {"x": x}, {}, 17)), ["x"], "y")
    g = run(model.proto(), {"x": x, SEED: np.full((1, 1, 1), 2, np.float32)}, ["gradient/x"])
    np.testing.assert_array_equal(g[0], np.full((1, 1, 4), 0.5))


@pytest.mark.parametrize("zeros", [0, 1, 2])
def test_product_with_zeros(zeros: int) -> None:
    x = numbers(2, 5, low=0.5, high=2.0)
    x[0, :zeros] = 0
    check_vjp("ReduceProd", x, opset=17, axes=[1])


@pytest.mark.parametrize(
    "op",
    ["ReduceSum", "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceSumSquare"],
)
def test_axes_that_the_model_computes_are_taken_if_they_are_kept(op: str) -> None:
    """As those of a sum that undoes a broadcast of unknown sizes, which a second derivative goes through."""
    model = onnx.parser.parse_model(
        f"""<ir_version: 9, opset_import: ["": 18]>
        net (float[2, 3, 4] x, int64[1] last) => (float[a, b, c] y) {{
            one = Constant<value_ints = [1]>()
            axes = Sub(last, one)
            y = {op}<keepdims = 1>(x, axes) }}"""
    )
    feed = {"x": numbers(2, 3, 4, low=0.4, high=1.8), "last": np.array([2], np.int64)}
    check_model(model, feed, ["x"], "y")


def test_axes_that_the_model_computes_are_refused_if_sizes_depend_on_them() -> None:
    model = onnx.parser.parse_model(
        """<ir_version: 9, opset_import: ["": 18]>
        net (float[2, 3, 4] x, int64[1] axes) => (float[a, b, c] y) {
            y = ReduceMean<keepdims = 1>(x, axes) }"""
    )
    with pytest.raises(ModelError, match="needs fixed axes"):
        gradient(load(model), ["x"], "y")
