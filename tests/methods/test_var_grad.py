"""`var-grad` is the variance of gradients at noisy copies of the image."""

from typing import Any

import numpy as np
import pytest

import onnxcam
from onnxcam.arrays import Floats
from onnxcam.methods import METHODS
from onnxcam.methods.rounding import is_same_in_all_samples
from tests.explain.support.explained import noisy
from tests.methods.support import image_twins
from tests.methods.support.compare import NETS, X, assert_close, explain, stack
from tests.support.layered_nets import CURVED, Conv, Flatten, LayeredNet, Linear
from tests.support.nets import NHWC

NAME = "var-grad"


def twin(
    net: LayeredNet, x: Floats, target: int, noise: float = 0.15, samples: int = 25, seed: int = 0
) -> Floats:
    """With the noise that the method draws."""
    copies = noisy(x, noise * (x.max() - x.min()), samples, seed)
    return image_twins.var_grad(net, [*copies], target)


def linear_net() -> LayeredNet:
    """Its score is linear in the image."""
    draw = np.random.default_rng(1)
    return LayeredNet(
        {
            "features": Conv(draw.normal(size=(4, 3, 3, 3)), draw.normal(size=4), stride=2),
            "flat": Flatten(),
            "logits": Linear(draw.normal(size=(5, 64)), draw.normal(size=5)),
        }
    )


@pytest.mark.parametrize("net", NETS)
def test_var_grad_equals_twin(net: str) -> None:
    explanation, expected = explain(NAME, NETS[net]), stack(twin, NETS[net])
    assert_close(explanation.attributions, expected)
    assert_close(
        explanation.maps, np.stack([image_twins.total(variances) for variances in expected])
    )
    other = explain(NAME, NETS[net], noise=0.3, samples=7, seed=4)
    assert_close(other.attributions, stack(twin, NETS[net], 0.3, 7, 4))


def test_variance_far_below_the_square_of_the_gradient_is_not_lost() -> None:
    expected = stack(twin, CURVED, 0.002)
    gradient = np.asarray(explain("saliency", CURVED).attributions)
    assert expected.sum() < 1e-3 * np.square(gradient).sum()
    assert_close(explain(NAME, CURVED, noise=0.002).attributions, expected)


def test_variance_of_constant_gradient_is_empty_and_a_notice_says_why() -> None:
    explanation = explain(NAME, linear_net())
    assert not explanation.maps.any()
    assert explanation.is_empty.all()
    assert any("score is linear in the image" in notice for notice in explanation.notices)
    squares = explain("smooth-grad-squared", linear_net())
    assert any("averaging has no effect" in notice for notice in squares.notices)
    gradient = np.asarray(explain("saliency", linear_net()).attributions, np.float64)
    assert_close(squares.attributions, np.square(gradient))


def test_channels_last_model_has_variance_of_its_gradients() -> None:
    x = X.transpose(0, 2, 3, 1)[0]
    copies = noisy(x, 0.15 * (x.max() - x.min()), 6, 0)
    options: dict[str, Any] = {"device": "cpu", "cache": False}
    saliency = onnxcam.Explainer(NHWC.content(), "saliency", **options)
    gradients = np.asarray(saliency(copies, 1).attributions, np.float64)
    actual = onnxcam.Explainer(NHWC.content(), NAME, samples=6, **options)(x, 1)
    assert_close(actual.attributions, gradients.var(axis=0, keepdims=True))


@pytest.mark.parametrize("settings", [{"noise": 0.0}, {"samples": 1}], ids=str)
def test_equal_samples_have_no_variance(settings: dict[str, Any]) -> None:
    explanation = explain(NAME, CURVED, **settings)
    assert explanation.is_empty.all()
    assert not explanation.maps.any()


def test_rounding_errors_of_equal_gradients_are_empty() -> None:
    method = METHODS[NAME]
    draw = np.random.default_rng(0)
    gradient = draw.normal(size=(1, 3, 4, 4))
    samples = gradient * (1 + 1e-7 * draw.normal(size=(25, 3, 4, 4)))
    quantities: dict[str, Floats] = {
        "activation": np.ones_like(gradient),
        "d1": samples.mean(0, keepdims=True),
        "d2": np.square(samples).mean(0, keepdims=True),
    }
    variance = method.formula(quantities["d1"], quantities["d2"]).sum(axis=1)
    assert variance.any()
    assert is_same_in_all_samples(quantities, variance, float(np.finfo(np.float32).eps))
    assert not is_same_in_all_samples(quantities, 1e6 * variance, float(np.finfo(np.float32).eps))
