"""MaxPool, GlobalMaxPool and MaxUnpool: every window, ties, and indices that repeat."""

from typing import Any

import numpy as np
import pytest
from onnx import helper

from onnxcam.model.load import load
from onnxcam.rewrite.gradient import SEED, gradient
from tests.autodiff.support.check import check_vjp, numbers, one_node_model, run
from tests.autodiff.support.pool_windows import DILATED, SIZES, WINDOWS


@pytest.mark.parametrize("dynamic", SIZES, ids=str)
@pytest.mark.parametrize("window", WINDOWS | DILATED)
def test_max_pool_matches_differences(window: str, dynamic: tuple[int, ...]) -> None:
    size, attributes = (WINDOWS | DILATED)[window]
    check_vjp("MaxPool", numbers(*size), dynamic=dynamic, **attributes)


@pytest.mark.parametrize("opset", [7, 8, 10, 12, 22])
def test_max_pool_at_opset_matches_differences(opset: int) -> None:
    size, attributes = WINDOWS["pads"]
    model = check_vjp("MaxPool", numbers(*size), opset=opset, **attributes)
    assert model.opset == max(opset, 16)


def test_max_pool_with_free_pads_at_old_opset_matches_differences() -> None:
    size, attributes = WINDOWS["same lower"]
    check_vjp("MaxPool", numbers(*size), opset=7, dynamic=(2, 3), **attributes)


@pytest.mark.parametrize("order", [0, 1])
@pytest.mark.parametrize("window", ["overlap", "uneven pads", "three dimensions"])
def test_max_pool_with_storage_order_matches_differences(window: str, order: int) -> None:
    size, attributes = WINDOWS[window]
    check_vjp("MaxPool", numbers(*size), outputs=2, storage_order=order, **attributes)


def test_max_pool_tie_goes_to_the_first_cell() -> None:
    x = np.array([[[[1, 2, 2, 0], [2, 2, 0, 0], [0, 0, 3, 3], [0, 0, 3, 3]]]], np.float32)
    node = helper.make_node("MaxPool", ["x"], ["y"], kernel_shape=[2, 2], strides=[2, 2])
    augmented = gradient(load(one_node_model(node, {"x": x}, {}, 17)), ["x"], "y")
    seed = np.array([[[[1, 2], [3, 4]]]], np.float32)
    computed = run(augmented.proto(), {"x": x, SEED: seed}, ["gradient/x"])[0]
    expected = [[0, 1, 2, 0], [0, 0, 0, 0], [3, 0, 4, 0], [0, 0, 0, 0]]
    np.testing.assert_array_equal(computed[0, 0], expected)


def test_max_pool_uses_no_scatter_nd() -> None:
    """On CPUs, a ScatterND that adds loses updates with more than one thread."""
    model = check_vjp("MaxPool", numbers(1, 2, 7, 7), kernel_shape=[3, 3])
    assert not any(node.op == "ScatterND" for node in model.graph.nodes)


@pytest.mark.parametrize("dynamic", [(), (0,), (0, 2, 3)], ids=str)
def test_max_unpool_matches_differences(dynamic: tuple[int, ...]) -> None:
    indices = np.array([[[[0, 3], [9, 14]], [[21, 18], [24, 31]]]], np.int64)
    attributes: dict[str, Any] = {"kernel_shape": [2, 2], "strides": [2, 2]}
    check_vjp("MaxUnpool", numbers(1, 2, 2, 2), indices, dynamic=dynamic, **attributes)
