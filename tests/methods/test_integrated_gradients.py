"""`integrated-gradients` adds up to the difference of two scores."""

import json
from typing import Any

import numpy as np
import pytest

import onnxcam
from onnxcam.errors import SettingError
from onnxcam.methods import METHODS
from tests.methods.support.compare import (
    NETS,
    TARGET,
    X,
    assert_attributions,
    assert_close,
    explain,
    stack,
)
from tests.methods.support.image_twins import integrated_gradients
from tests.support.nets import DEEP, random_images

NAME = "integrated-gradients"


@pytest.mark.parametrize("net", NETS)
def test_integrated_gradients_equal_twin(net: str) -> None:
    assert_attributions(explain(NAME, NETS[net]), stack(integrated_gradients, NETS[net]))
    other = explain(NAME, NETS[net], baseline=0.25, steps=9)
    assert_close(other.attributions, stack(integrated_gradients, NETS[net], 0.25, 9))


def test_baseline_may_be_an_image() -> None:
    explanation = explain(NAME, NETS["curved"], baseline=X[2], steps=9)
    twin = [integrated_gradients(NETS["curved"], x, TARGET, X[2], 9) for x in X]
    assert_close(explanation.attributions, np.stack(twin))


def test_completeness_gap_shrinks_with_steps() -> None:
    net = NETS["curved"]
    gaps = [
        [facts["completeness_gap"] for facts in explain(NAME, net, steps=steps).facts]
        for steps in (3, 12, 48)
    ]
    few, more, many = np.array(gaps)
    assert (few > 1e-3).all()
    assert (more < few).all()
    assert (many < 1e-4).all()


def test_score_of_baseline_is_reported() -> None:
    net = NETS["piecewise"]
    explanation = explain(NAME, net, baseline=0.25)
    expected = net.logits(np.full(X[0].shape, 0.25))[TARGET]
    for facts, attributions, score in zip(
        explanation.facts, np.asarray(explanation.attributions), explanation.scores, strict=True
    ):
        assert facts["baseline_score"] == pytest.approx(expected, rel=1e-5)
        gap = abs(attributions.sum() - (score - expected)) / abs(score - expected)
        assert facts["completeness_gap"] == pytest.approx(gap, rel=0.01)
        assert gap < 0.02


def test_facts_and_settings_are_in_the_manifest() -> None:
    explanation = explain(NAME, NETS["curved"], baseline=X[0], steps=4)
    manifest = json.loads(json.dumps(explanation.manifest(1)))
    assert manifest["facts"] == dict(explanation.facts[1])
    settings = manifest["method"]["settings"]
    assert settings["steps"] == 4
    assert settings["baseline"]["shape"] == [3, 8, 8]
    assert len(settings["baseline"]["sha256"]) == 64
    few = explain(NAME, NETS["curved"], baseline=[0.1, 0.2, 0.3], steps=4).manifest()
    assert few["method"]["settings"]["baseline"] == [0.1, 0.2, 0.3]


def test_explanation_of_the_baseline_itself_is_empty() -> None:
    explanation = onnxcam.Explainer(DEEP.content(), NAME, device="cpu", cache=False)(
        np.zeros((1, 3, 8, 8), np.float32), 1
    )
    assert not explanation.maps.any()
    assert explanation.facts[0]["completeness_gap"] == 0.0


def test_progress_counts_steps() -> None:
    explainer = onnxcam.Explainer(DEEP.content(), NAME, device="cpu", cache=False, steps=7)
    counts: list[int] = []
    explainer(random_images(2), 1, progress=counts.append)
    assert sum(counts) == 2 * explainer.passes == 14


@pytest.mark.parametrize("steps", [0, 1001, "many"])
def test_invalid_steps_are_refused(steps: Any) -> None:
    with pytest.raises(SettingError, match=r"steps=.*: expected"):
        METHODS[NAME].resolve_settings({"steps": steps})
