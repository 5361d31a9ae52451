"""LpPool and GlobalLpPool."""

import numpy as np
import pytest
from onnx import helper

from onnxcam.arrays import Floats
from onnxcam.model.load import load
from onnxcam.rewrite.gradient import SEED, gradient
from tests.autodiff.support.check import check_vjp, numbers, one_node_model, run
from tests.autodiff.support.checked_operators import RECORDED
from tests.autodiff.support.pool_windows import DILATED, SIZES, WINDOWS


@pytest.mark.parametrize("dynamic", SIZES, ids=str)
@pytest.mark.parametrize("p", [1, 2, 3, 4])
@pytest.mark.parametrize("window", ["overlap", "uneven pads", "one dimension", "same lower"])
def test_lp_pool_matches_differences(window: str, p: int, dynamic: tuple[int, ...]) -> None:
    size, attributes = WINDOWS[window]
    check_vjp("LpPool", numbers(*size), p=p, dynamic=dynamic, **attributes)


def test_dilated_lp_pool_matches_differences() -> None:
    size, attributes = DILATED["dilations"]
    check_vjp("LpPool", numbers(*size), opset=18, p=3, **attributes)


@pytest.mark.parametrize("window", ["ceil", "ceil, pads"])
def test_lp_pool_with_ceil_mode_is_homogeneous(window: str) -> None:
    """onnx.reference counts cells twice there; but for a norm, <gradient, x> = <seed, y>."""
    size, attributes = WINDOWS[window]
    node, x = helper.make_node("LpPool", ["x"], ["y"], p=3, **attributes), numbers(*size)
    proto = one_node_model(node, {"x": x}, {}, 18)
    augmented, y = gradient(load(proto), ["x"], "y"), run(proto, {"x": x}, ["y"])[0]
    seed = numbers(*y.shape, seed=1)
    computed = run(augmented.proto(), {"x": x, SEED: seed}, ["gradient/x"])[0]
    np.testing.assert_allclose(np.vdot(computed, x), np.vdot(seed, y), rtol=1e-5)


@pytest.mark.parametrize("dynamic", SIZES, ids=str)
@pytest.mark.parametrize("p", [1, 2, 3])
def test_global_lp_pool_matches_formula(p: int, dynamic: tuple[int, ...]) -> None:
    check_global_lp_pool(numbers(2, 3, 4, 5), p, dynamic)


def check_global_lp_pool(x: Floats, p: int, dynamic: tuple[int, ...]) -> None:
    """onnx.reference has no GlobalLpPool, so against sign(x) |x|^(p-1) y^(1-p)."""
    node = helper.make_node("GlobalLpPool", ["x"], ["y"], p=p)
    augmented = gradient(load(one_node_model(node, {"x": x}, {}, 17, dynamic)), ["x"], "y")
    seed = numbers(*x.shape[:2], 1, 1, seed=1)
    computed = run(augmented.proto(), {"x": x, SEED: seed}, ["gradient/x"])[0]
    norm = np.sum(np.abs(x) ** p, axis=(2, 3), keepdims=True) ** (1 / p)
    expected = seed * np.sign(x) * np.abs(x) ** (p - 1) * norm ** (1.0 - p)
    np.testing.assert_allclose(computed, expected, rtol=1e-5, atol=1e-6)
    RECORDED.add("GlobalLpPool")


def test_lp_pool_of_zeros_has_zero_gradient() -> None:
    x = np.zeros((1, 1, 4, 4), np.float32)
    for op, attributes in (("LpPool", {"kernel_shape": [2, 2]}), ("GlobalLpPool", {})):
        node = helper.make_node(op, ["x"], ["y"], **attributes)
        augmented = gradient(load(one_node_model(node, {"x": x}, {}, 17)), ["x"], "y")
        seed = np.ones((1, 1, 3, 3) if attributes else (1, 1, 1, 1), np.float32)
        assert not np.any(run(augmented.proto(), {"x": x, SEED: seed}, ["gradient/x"])[0])
