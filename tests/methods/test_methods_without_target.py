"""Methods at a layer that need no target run models without class scores, and without a gradient."""

import numpy as np
import pytest

import onnxcam
from onnxcam.methods import METHODS
from tests.methods.support.formulas import run
from tests.methods.support.headless import HEADS, headless
from tests.support.nets import POOLED, random_images

WITHOUT_TARGET = [
    name for name, method in METHODS.items() if method.has_layer and not method.needs_target
]


def test_methods_without_target_are_known() -> None:
    """A test of none would prove nothing."""
    assert {"activation-map", "eigen-cam", "fem", "kpca-cam"} <= {*WITHOUT_TARGET}
    assert not any(METHODS[name].needs_gradient for name in WITHOUT_TARGET)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("method", WITHOUT_TARGET)
def test_model_without_class_scores_is_explained(method: str, head: str) -> None:
    """Also one whose output has no derivative."""
    x = random_images(2)
    explanation = onnxcam.Explainer(headless(HEADS[head]), method, device="cpu")(x)
    assert explanation.layers == ("features",)
    assert explanation.notices == ()
    activation = POOLED.features(x)
    expected = run(method, {"activation": activation, "counted": np.ones_like(activation)})
    assert expected.any()
    np.testing.assert_allclose(explanation.layer_maps, expected, rtol=1e-4, atol=1e-5)
