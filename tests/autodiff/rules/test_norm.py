"""MeanVarianceNormalization and LpNormalization."""

from typing import Any

import numpy as np
import pytest
from onnx import helper

from onnxcam.model.load import load
from onnxcam.rewrite.gradient import SEED, gradient
from tests.autodiff.support.check import (
    check_vjp,
    numbers,
    one_node_model,
    run,
)

DYNAMIC = pytest.mark.parametrize("dynamic", [(), (0,), (0, 1, 2, 3)], ids=str)


@DYNAMIC
@pytest.mark.parametrize("axes", [[0, 2, 3], [1], [-1, 2]], ids=str)
@pytest.mark.parametrize("opset", [9, 13, 18])
def test_mean_variance_normalization_matches_differences(
    opset: int, axes: list[int], dynamic: tuple[int, ...]
) -> None:
    x = numbers(2, 3, 4, 5)
    check_vjp("MeanVarianceNormalization", x, opset=opset, dynamic=dynamic, axes=axes)


@DYNAMIC
def test_mean_variance_normalization_with_default_axes_matches_differences(
    dynamic: tuple[int, ...],
) -> None:
    """In opset 9: onnx's full check refuses newer ones without axes."""
    check_vjp("MeanVarianceNormalization", numbers(2, 3, 4, 5), opset=9, dynamic=dynamic)


@DYNAMIC
@pytest.mark.parametrize("p", [None, 1, 2])
@pytest.mark.parametrize("axis", [None, 0, 1, -1])
@pytest.mark.parametrize("opset", [7, 22])
def test_lp_normalization_matches_differences(
    opset: int, axis: int | None, p: int | None, dynamic: tuple[int, ...]
) -> None:
    arguments = {"axis": axis, "p": p}
    attributes: dict[str, Any] = {k: v for k, v in arguments.items() if v is not None}
    check_vjp("LpNormalization", numbers(2, 3, 4, 5), opset=opset, dynamic=dynamic, **attributes)


@pytest.mark.parametrize("p", [1, 2])
def test_lp_normalization_of_zeros_has_zero_gradient(p: int) -> None:
    x = np.array([[0, 0, 0], [1, 2, 2]], np.float32)
    node = helper.make_node("LpNormalization", ["x"], ["y"], p=p)
    model = gradient(load(one_node_model(node, {"x": x}, {}, 17)), ["x"], "y")
    (computed,) = run(model.proto(), {"x": x, SEED: np.ones_like(x)}, ["gradient/x"])
    assert np.isfinite(computed).all()
    np.testing.assert_array_equal(computed[0], 0)
