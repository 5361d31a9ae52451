"""Pools with every awkward window; who gets the cotangent of a tie; what an average counts."""

from typing import Any

import numpy as np
import pytest
from onnx import helper

from onnxcam.arrays import Floats
from onnxcam.model.load import load
from onnxcam.rewrite.gradient import SEED, gradient
from tests.autodiff.support.check import check_vjp, numbers, one_node_model, run

WINDOWS: dict[str, tuple[tuple[int, ...], dict[str, Any]]] = {
    "plain": ((2, 3, 6, 8), {"kernel_shape": [2, 2], "strides": [2, 2]}),
    "overlap": ((1, 2, 7, 8), {"kernel_shape": [3, 3], "strides": [2, 2]}),
    "stride 1": ((1, 2, 5, 6), {"kernel_shape": [3, 2]}),
    "gap and tail": ((1, 2, 8, 9), {"kernel_shape": [2, 2], "strides": [3, 4]}),
    "pads": ((1, 2, 6, 7), {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}),
    "uneven pads": (
        (1, 2, 6, 7),
        {"kernel_shape": [3, 3], "strides": [2, 1], "pads": [0, 2, 1, 0]},
    ),
    "ceil": ((1, 2, 6, 8), {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1}),
    "ceil, pads": (
        (1, 2, 6, 8),
        {"kernel_shape": [3, 3], "strides": [2, 3], "ceil_mode": 1, "pads": [1, 0, 1, 1]},
    ),
    "one dimension": ((2, 2, 9), {"kernel_shape": [4], "strides": [3], "pads": [1, 2]}),
    "three dimensions": ((1, 2, 4, 5, 4), {"kernel_shape": [2, 3, 2], "strides": [2, 1, 2]}),
    "same upper": (
        (1, 2, 7, 8),
        {"kernel_shape": [3, 2], "strides": [2, 3], "auto_pad": "SAME_UPPER"},
    ),
    "same lower": (
        (1, 2, 7, 8),
        {"kernel_shape": [4, 2], "strides": [2, 3], "auto_pad": "SAME_LOWER"},
    ),
    "same, stride 1": ((1, 2, 5, 6), {"kernel_shape": [2, 4], "auto_pad": "SAME_UPPER"}),
    "valid": ((1, 2, 7, 8), {"kernel_shape": [3, 2], "strides": [2, 2], "auto_pad": "VALID"}),
    "whole": ((1, 2, 4, 5), {"kernel_shape": [4, 5]}),
}
DILATED: dict[str, tuple[tuple[int, ...], dict[str, Any]]] = {
    "dilations": ((1, 2, 8, 9), {"kernel_shape": [3, 2], "dilations": [2, 3]}),
    "dilations, stride, pads": (
        (1, 2, 8, 9),
        {"kernel_shape": [2, 3], "dilations": [3, 2], "strides": [2, 2], "pads": [1, 2, 0, 1]},
    ),
    "dilations, ceil": (
        (1, 2, 8, 9),
        {"kernel_shape": [2, 2], "dilations": [2, 3], "strides": [3, 2], "ceil_mode": 1},
    ),
}
SIZES = [(), (0,), (2, 3), (0, 2, 3, 4)]


@pytest.mark.parametrize("dynamic", SIZES, ids=str)
@pytest.mark.parametrize("window", WINDOWS | DILATED)
def test_max_pool(window: str, dynamic: tuple[int, ...]) -> None:
    size, attributes = (WINDOWS | DILATED)[window]
    check_vjp("MaxPool", numbers(*size), dynamic=dynamic, **attributes)


@pytest.mark.parametrize("opset", [7, 8, 10, 12, 22])
def test_max_pool_of_every_opset(opset: int) -> None:
    size, attributes = WINDOWS["pads"]
    model = check_vjp("MaxPool", numbers(*size), opset=opset, **attributes)
    assert model.opset == max(opset, 16)


@pytest.mark.parametrize("order", [0, 1])
@pytest.mark.parametrize("window", ["overlap", "uneven pads", "three dimensions"])
def test_indices_that_are_asked_for_in_either_order(window: str, order: int) -> None:
    size, attributes = WINDOWS[window]
    check_vjp("MaxPool", numbers(*size), outputs=2, storage_order=order, **attributes)


@pytest.mark.parametrize("dynamic", SIZES, ids=str)
@pytest.mark.parametrize("include_pad", [0, 1])
@pytest.mark.parametrize("window", [*WINDOWS, *DILATED])
def test_average_pool(window: str, include_pad: int, dynamic: tuple[int, ...]) -> None:
    size, attributes = (WINDOWS | DILATED)[window]
    check_vjp(
        "AveragePool",
        numbers(*size),
        dynamic=dynamic,
        opset=19,
        count_include_pad=include_pad,
        **attributes,
    )


SIDE_BY_SIDE: dict[str, tuple[tuple[int, ...], dict[str, Any]]] = {
    "even": ((2, 3, 4, 6), {"kernel_shape": [2, 3]}),
    "tail": ((1, 2, 7, 8), {"kernel_shape": [3, 3]}),
    "hanging over": ((1, 2, 7, 8), {"kernel_shape": [3, 3], "ceil_mode": 1}),
    "one dimension": ((1, 2, 7), {"kernel_shape": [2]}),
    "three dimensions": ((1, 2, 4, 5, 6), {"kernel_shape": [2, 2, 3]}),
}


@pytest.mark.parametrize("dynamic", [(), (0,)], ids=str)
@pytest.mark.parametrize("include_pad", [0, 1])
@pytest.mark.parametrize("window", SIDE_BY_SIDE)
def test_average_pool_side_by_side(window: str, include_pad: int, dynamic: tuple[int, ...]) -> None:
    """The shares are repeated, which is no convolution."""
    size, given = SIDE_BY_SIDE[window]
    given = {**given, "strides": given["kernel_shape"], "count_include_pad": include_pad}
    model = check_vjp("AveragePool", numbers(*size), dynamic=dynamic, **given)
    assert not any("Conv" in each.op for each in model.graph.nodes)


@pytest.mark.parametrize("opset", [7, 10, 11, 22])
def test_average_pool_of_every_opset(opset: int) -> None:
    size, attributes = WINDOWS["uneven pads"]
    check_vjp("AveragePool", numbers(*size), opset=opset, **attributes)


def test_a_tie_goes_to_the_first() -> None:
    x = np.array([[[[1, 2, 2, 0], [2, 2, 0, 0], [0, 0, 3, 3], [0, 0, 3, 3]]]], np.float32)
    node = helper.make_node("MaxPool", ["x"], ["y"], kernel_shape=[2, 2], strides=[2, 2])
    augmented = gradient(load(one_node_model(node, {"x": x}, {}, 17)), ["x"], "y")
    seed = np.array([[[[1, 2], [3, 4]]]], np.float32)
    found = run(augmented.proto(), {"x": x, SEED: seed}, ["gradient/x"])[0]
    expected = [[0, 1, 2, 0], [0, 0, 0, 0], [3, 0, 4, 0], [0, 0, 0, 0]]
    np.testing.assert_array_equal(found[0, 0], expected)


@pytest.mark.parametrize("dynamic", SIZES, ids=str)
@pytest.mark.parametrize("op", ["GlobalAveragePool", "GlobalMaxPool"])
@pytest.mark.parametrize("size", [(2, 3, 5), (2, 3, 4, 5), (1, 2, 3, 2, 4)])
def test_global_pool(op: str, size: tuple[int, ...], dynamic: tuple[int, ...]) -> None:
    check_vjp(op, numbers(*size), dynamic=dynamic)


def test_never_a_racy_scatter() -> None:
    """ScatterND that adds loses updates on CPUs when more than one thread runs."""
    model = check_vjp("MaxPool", numbers(1, 2, 7, 7), kernel_shape=[3, 3])
    assert not any(each.op == "ScatterND" for each in model.graph.nodes)


@pytest.mark.parametrize("dynamic", SIZES, ids=str)
@pytest.mark.parametrize("p", [1, 2, 3, 4])
@pytest.mark.parametrize("window", ["overlap", "uneven pads", "one dimension", "same lower"])
def test_lp_pool(window: str, p: int, dynamic: tuple[int, ...]) -> None:
    size, attributes = WINDOWS[window]
    check_vjp("LpPool", numbers(*size), p=p, dynamic=dynamic, **attributes)


def test_dilated_lp_pool() -> None:
    size, attributes = DILATED["dilations"]
    check_vjp("LpPool", numbers(*size), opset=18, p=3, **attributes)


@pytest.mark.parametrize("window", ["ceil", "ceil, pads"])
def test_lp_pool_that_hangs_over(window: str) -> None:
    """onnx.reference counts cells twice there; but a norm is homogeneous: <gradient, x> = <seed, y>."""
    size, attributes = WINDOWS[window]
    node, x = helper.make_node("LpPool", ["x"], ["y"], p=3, **attributes), numbers(*size)
    proto = one_node_model(node, {"x": x}, {}, 18)
    augmented, y = gradient(load(proto), ["x"], "y"), run(proto, {"x": x}, ["y"])[0]
    seed = numbers(*y.shape, seed=1)
    found = run(augmented.proto(), {"x": x, SEED: seed}, ["gradient/x"])[0]
    np.testing.assert_allclose(np.vdot(found, x), np.vdot(seed, y), rtol=1e-5)


@pytest.mark.parametrize("dynamic", SIZES, ids=str)
@pytest.mark.parametrize("p", [1, 2, 3])
def test_global_lp_pool(p: int, dynamic: tuple[int, ...]) -> None:
    check_by_hand(numbers(2, 3, 4, 5), p, dynamic)


def check_by_hand(x: Floats, p: int, dynamic: tuple[int, ...]) -> None:
    """onnx.reference has no GlobalLpPool: sign(x) |x|^(p-1) y^(1-p) by hand."""
    node = helper.make_node("GlobalLpPool", ["x"], ["y"], p=p)
    augmented = gradient(load(one_node_model(node, {"x": x}, {}, 17, dynamic)), ["x"], "y")
    seed = numbers(*x.shape[:2], 1, 1, seed=1)
    found = run(augmented.proto(), {"x": x, SEED: seed}, ["gradient/x"])[0]
    norm = np.sum(np.abs(x) ** p, axis=(2, 3), keepdims=True) ** (1 / p)
    expected = seed * np.sign(x) * np.abs(x) ** (p - 1) * norm ** (1.0 - p)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_the_norm_of_nothing_has_no_slope() -> None:
    x = np.zeros((1, 1, 4, 4), np.float32)
    for op, given in (("LpPool", {"kernel_shape": [2, 2]}), ("GlobalLpPool", {})):
        node = helper.make_node(op, ["x"], ["y"], **given)
        augmented = gradient(load(one_node_model(node, {"x": x}, {}, 17)), ["x"], "y")
        seed = np.ones((1, 1, 3, 3) if given else (1, 1, 1, 1), np.float32)
        assert not np.any(run(augmented.proto(), {"x": x, SEED: seed}, ["gradient/x"])[0])


@pytest.mark.parametrize("dynamic", [(), (0,), (0, 2, 3)], ids=str)
def test_max_unpool(dynamic: tuple[int, ...]) -> None:
    where = np.array([[[[0, 3], [9, 14]], [[21, 18], [24, 31]]]], np.int64)
    given: dict[str, Any] = {"kernel_shape": [2, 2], "strides": [2, 2]}
    check_vjp("MaxUnpool", numbers(1, 2, 2, 2), where, dynamic=dynamic, **given)
