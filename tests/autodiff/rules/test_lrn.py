"""LRN with odd and even windows of channels."""

import numpy as np
import pytest
from onnx import helper

from onnxcam.model.load import load
from onnxcam.rewrite.gradient import SEED, gradient
from tests.autodiff.support.check import (
    TOLERANCE,
    check_vjp,
    directions,
    numbers,
    one_node_model,
)
from tests.autodiff.support.differences import float64_evaluator, function, slope


@pytest.mark.parametrize("dynamic", [(), (0, 2, 3)], ids=str)
@pytest.mark.parametrize("size", [1, 3, 5, 13])  # ONNX Runtime refuses even sizes
def test_lrn_matches_differences(size: int, dynamic: tuple[int, ...]) -> None:
    x = numbers(2, 7, 3, 2, low=-3.0, high=3.0)
    check_vjp("LRN", x, size=size, alpha=0.5, beta=0.75, bias=1.5, dynamic=dynamic)


def test_lrn_with_default_attributes_matches_differences() -> None:
    check_vjp("LRN", numbers(2, 5, 4, 3, low=-9.0, high=9.0), size=3)


@pytest.mark.parametrize("size", [2, 4])
def test_lrn_with_even_window_matches_differences(size: int) -> None:
    """Its window is not symmetric, so that of the gradient is mirrored. Only the evaluator runs it."""
    x = numbers(2, 6, 2, 2, low=-3.0, high=3.0)
    node = helper.make_node("LRN", ["x"], ["y"], size=size, alpha=0.5, bias=1.5)
    proto = one_node_model(node, {"x": x}, {}, 17)
    f = function(float64_evaluator(proto), {"x": x}, "x", "y")
    seed, here = numbers(*x.shape, seed=1).astype(np.float64), f(x.astype(np.float64))
    emitted = float64_evaluator(gradient(load(proto), ["x"], "y").proto())
    g = np.asarray(emitted.run(["gradient/x"], {"x": x.astype(np.float64), SEED: seed})[0])
    for direction in directions(x.shape, np.random.default_rng(0)):
        exact = slope(f, x.astype(np.float64), here, direction, seed)
        assert abs(np.sum(g * direction) - exact) <= TOLERANCE * np.linalg.norm(g)
