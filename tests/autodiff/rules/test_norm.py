"""Normalisation by fixed statistics and over channels."""

import numpy as np
import pytest
from onnx import helper

from onnxcam.errors import ModelError
from onnxcam.graph.model import load
from onnxcam.rewrite.augment import SEED, gradient
from tests.autodiff.check import TOLERANCE, check_vjp, directions, numbers, one_node_model
from tests.autodiff.differences import function, in_float64, slope


@pytest.mark.parametrize("opset", [7, 9, 14, 15, 17])
@pytest.mark.parametrize("size", [(4, 3), (2, 3, 5), (2, 3, 4, 5), (1, 3, 2, 3, 2)])
def test_batch_normalization(size: tuple[int, ...], opset: int) -> None:
    statistics = [numbers(3, seed=i, low=0.5, high=2.0) for i in range(4)]
    check_vjp("BatchNormalization", numbers(*size), *statistics, opset=opset, epsilon=1e-2)


@pytest.mark.parametrize("dynamic", [(0,), (2, 3), (0, 1, 2, 3)], ids=str)
def test_batch_normalization_of_unknown_sizes(dynamic: tuple[int, ...]) -> None:
    statistics = [numbers(3, seed=i, low=0.5, high=2.0) for i in range(4)]
    check_vjp("BatchNormalization", numbers(2, 3, 4, 5), *statistics, dynamic=dynamic)


def test_training_mode_is_refused() -> None:
    statistics = [numbers(3, seed=i, low=0.5, high=2.0) for i in range(4)]
    with pytest.raises(ModelError, match="inference mode"):
        check_vjp("BatchNormalization", numbers(2, 3, 4), *statistics, outputs=3, training_mode=1)


@pytest.mark.parametrize("dynamic", [(), (0, 2, 3)], ids=str)
@pytest.mark.parametrize("size", [1, 3, 5, 13])  # ONNX Runtime refuses even ones
def test_lrn(size: int, dynamic: tuple[int, ...]) -> None:
    x = numbers(2, 7, 3, 2, low=-3.0, high=3.0)
    check_vjp("LRN", x, size=size, alpha=0.5, beta=0.75, bias=1.5, dynamic=dynamic)


def test_lrn_by_its_defaults() -> None:
    check_vjp("LRN", numbers(2, 5, 4, 3, low=-9.0, high=9.0), size=3)


@pytest.mark.parametrize("size", [2, 4])
def test_an_even_window_of_channels_leans_to_one_side(size: int) -> None:
    """Its gradient is of the mirrored window. ONNX Runtime refuses it: the evaluator runs both."""
    x = numbers(2, 6, 2, 2, low=-3.0, high=3.0)
    node = helper.make_node("LRN", ["x"], ["y"], size=size, alpha=0.5, bias=1.5)
    proto = one_node_model(node, {"x": x}, {}, 17)
    f = function(in_float64(proto), {"x": x}, "x", "y")
    seed, here = numbers(*x.shape, seed=1).astype(np.float64), f(x.astype(np.float64))
    emitted = in_float64(gradient(load(proto), ["x"], "y").proto())
    g = np.asarray(emitted.run(["gradient/x"], {"x": x.astype(np.float64), SEED: seed})[0])
    for direction in directions(x.shape, np.random.default_rng(0)):
        exact = slope(f, x.astype(np.float64), here, direction, seed)
        assert abs(np.sum(g * direction) - exact) <= TOLERANCE * np.linalg.norm(g)
