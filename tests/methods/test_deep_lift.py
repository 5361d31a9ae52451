"""`deep-lift` adds up to the difference of two scores, in one pass."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import onnxcam
from onnxcam.arrays import Floats
from tests.explain.support.vit import Vit
from tests.methods.support.compare import (
    NETS,
    TARGET,
    X,
    assert_attributions,
    assert_close,
    explain,
    stack,
)
from tests.methods.support.layer_twins import deep_lift
from tests.support.nets import DEEP, FIXED, random_images


@pytest.mark.parametrize("net", NETS)
def test_deep_lift_equals_twin(net: str) -> None:
    assert_attributions(explain("deep-lift", NETS[net]), stack(deep_lift, NETS[net]))


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("baseline", [0.25, X[2]], ids=["number", "image"])
def test_deep_lift_of_baseline_equals_twin(net: str, baseline: Floats | float) -> None:
    explainer = onnxcam.Explainer(
        NETS[net].content(), "deep-lift", device="cpu", cache=False, baseline=baseline
    )
    twin = [deep_lift(NETS[net], x, TARGET, baseline) for x in X[:2]]
    assert_close(explainer(X[:2], TARGET).attributions, np.stack(twin))


@pytest.mark.parametrize("net", NETS)
def test_attributions_add_up(net: str) -> None:
    explanation = explain("deep-lift", NETS[net])
    expected = NETS[net].logits(np.zeros(X[0].shape))[TARGET]
    for facts in explanation.facts:
        assert facts["baseline_score"] == pytest.approx(expected, rel=1e-5)
        assert facts["completeness_gap"] < 1e-3


@pytest.mark.parametrize("read", ["token", "mean"])
def test_attributions_of_transformer_add_up(read: str) -> None:
    images = random_images(2, (3, 4, 6))
    explainer = onnxcam.Explainer(Vit(read=read).content(), "deep-lift", device="cpu", cache=False)
    for target in (1, "2-3", "not 0"):
        for facts in explainer(images, target).facts:
            assert facts["completeness_gap"] < 1e-3


def test_baseline_of_fixed_batch_is_padded() -> None:
    fixed: Any = replace(FIXED, head=DEEP.head, flatten=DEEP.flatten).with_batch("4")
    free, four = (
        onnxcam.Explainer(net.content(), "deep-lift", device="cpu", cache=False, baseline="blur")
        for net in (DEEP, fixed)
    )
    assert_close(four(X, 1).attributions, np.asarray(free(X, 1).attributions))
