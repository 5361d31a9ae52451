"""`saliency` is the gradient at the image."""

from typing import Any

import numpy as np
import pytest

import onnxcam
from tests.explain.support.vit import Vit
from tests.methods.support.compare import NETS, assert_attributions, assert_close, explain, stack
from tests.methods.support.image_twins import saliency
from tests.support.nets import random_images


@pytest.mark.parametrize("net", NETS)
def test_saliency_equals_twin(net: str) -> None:
    assert_attributions(explain("saliency", NETS[net]), stack(saliency, NETS[net]))


@pytest.mark.parametrize("read", ["token", "mean"])
def test_saliency_of_transformer_equals_differences(read: str) -> None:
    vit, x = Vit(read=read), random_images(1, (3, 4, 6))[0]

    def logit(moved: Any) -> float:
        tokens = vit.tokens(moved)
        return float(vit.logits(vit.norm(vit.block(tokens, vit.norm(tokens))))[1])

    expected, step = np.zeros(x.shape), 1e-5
    for index in np.ndindex(x.shape):
        moved = np.zeros(x.shape)
        moved[index] = step
        expected[index] = (logit(x + moved) - logit(x - moved)) / (2 * step)
    explanation = onnxcam.Explainer(vit.content(), "saliency", device="cpu", cache=False)(x, 1)
    assert_close(explanation.attributions, expected[None])


def test_saliency_has_no_layer_map_and_is_not_signed() -> None:
    explanation = explain("saliency", NETS["curved"])
    assert explanation.layer_maps is None
    assert not explanation.signed
    assert (explanation.maps >= 0).all()
