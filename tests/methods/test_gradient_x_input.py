"""`gradient-x-input` adds up to the score of a piecewise linear model without biases."""

from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest

from tests.methods.support.compare import NETS, TARGET, X, assert_attributions, explain, stack
from tests.methods.support.image_twins import gradient_x_input
from tests.support.layered_nets import PIECEWISE, LayeredNet

NAME = "gradient-x-input"


def without_bias(layer: Any) -> Any:
    """The same layer with zeros for what it adds."""
    names = {field.name for field in fields(layer)} & {"bias", "beta", "mean"}
    values = {name: getattr(layer, name) for name in names}
    return replace(layer, **{n: np.zeros_like(v) for n, v in values.items() if v is not None})


@pytest.mark.parametrize("net", NETS)
def test_gradient_x_input_equals_twin(net: str) -> None:
    assert_attributions(explain(NAME, NETS[net]), stack(gradient_x_input, NETS[net]))


def test_attributions_of_piecewise_linear_net_without_biases_add_up_to_the_score() -> None:
    layers = {name: without_bias(layer) for name, layer in PIECEWISE.layers.items()}
    explanation = explain(NAME, LayeredNet(layers))
    assert not explanation.notices
    for facts, attributions, score in zip(
        explanation.facts, np.asarray(explanation.attributions), explanation.scores, strict=True
    ):
        assert abs(score) > 0.01
        assert attributions.sum() == pytest.approx(score, rel=1e-4)
        assert facts == {"completeness_gap": pytest.approx(0.0, abs=1e-4)}


@pytest.mark.parametrize("net", NETS)
def test_gap_to_the_score_is_reported(net: str) -> None:
    explanation = explain(NAME, NETS[net])
    for x, facts in zip(X, explanation.facts, strict=True):
        score = NETS[net].logits(x)[TARGET]
        gap = abs(gradient_x_input(NETS[net], x, TARGET).sum() - score) / abs(score)
        assert facts["completeness_gap"] == pytest.approx(gap, rel=1e-3)
        assert gap > 0.05
    assert "integrated-gradients" in explanation.notices[0]
