"""ShapleyCAM: the second derivative of the score."""

from dataclasses import replace

import numpy as np
import pytest

from onnxcam.arrays import Floats
from tests.methods.support import twins
from tests.methods.support.compare import NETS, explain
from tests.methods.support.compare_layer import (
    VITS,
    Tokens,
    assert_layer_map_equals_twin,
    assert_token_map_equals_twin,
)
from tests.support.layered_nets import CURVED, PIECEWISE


@pytest.mark.parametrize("net", NETS)
def test_map_equals_twin(net: str) -> None:
    assert_layer_map_equals_twin("shapley-cam", NETS[net], twins.shapley_cam)


def shapley_cam_of_tokens(model: Tokens, x: Floats, target: int) -> Floats:
    """The twin with the class tokens as a part of A."""
    activation, step = model.features(x), twins.STEP
    further, nearer = (
        replace(model, others=1 + change).head_gradient(activation * (1 + change), target)
        for change in (step, -step)
    )
    gradient = model.head_gradient(activation, target)
    terms = gradient - (further - nearer) / (2 * step) / 2
    weights = terms.mean(axis=(1, 2), keepdims=True)
    return np.maximum((weights * activation).sum(axis=0), 0)


@pytest.mark.parametrize("vit", VITS)
def test_map_of_tokens_equals_twin(vit: str) -> None:
    assert_token_map_equals_twin("shapley-cam", VITS[vit], shapley_cam_of_tokens)


def test_piecewise_linear_head_gives_grad_cam_and_notice() -> None:
    explanation = explain("shapley-cam", PIECEWISE, layer="features")
    assert "second derivatives are 0 there" in " ".join(explanation.notices)
    grad_cam = explain("grad-cam", PIECEWISE, layer="features")
    np.testing.assert_array_equal(explanation.maps, grad_cam.maps)


def test_curved_head_differs_from_grad_cam_without_notice() -> None:
    explanation = explain("shapley-cam", CURVED, layer="features")
    assert "second derivatives" not in " ".join(explanation.notices)
    grad_cam = explain("grad-cam", CURVED, layer="features")
    assert np.corrcoef(explanation.maps.ravel(), grad_cam.maps.ravel())[0, 1] < 0.99
