"""The completeness gap is relative to the difference of scores, unless that is nearly nothing; a large one is
said in a notice.
"""

import numpy as np
import pytest

from onnxcam.methods import METHODS
from onnxcam.methods.completeness import completeness, gap_notice
from tests.methods.support.compare import NETS, explain


@pytest.mark.parametrize(
    ("score", "baseline_score", "total", "gap"),
    [(3.0, 1.0, 2.0, 0.0), (3.0, 1.0, 1.5, 0.25), (1.0, 3.0, -3.0, 0.5), (5.0, 5.0, 0.1, 2.0)],
)
def test_gap_of_attributions(score: float, baseline_score: float, total: float, gap: float) -> None:
    attributions = np.full((1, 2, 2, 2), total / 8)
    facts = completeness(attributions, np.array([score]), np.array([baseline_score]))
    assert facts["completeness_gap"] == pytest.approx([gap])
    assert facts["baseline_score"] == [baseline_score]


def test_gap_of_nothing_is_zero() -> None:
    zero = np.zeros(1)
    assert completeness(np.zeros((1, 1, 2, 2)), zero, zero)["completeness_gap"] == [0.0]


@pytest.mark.parametrize(
    ("facts", "is_said"),
    [
        ({"completeness_gap": 0.05}, False),
        ({"completeness_gap": 0.051}, True),
        ({"small_gap": 0.0, "large_gap": 2.0}, True),
        ({"baseline_score": 7.0}, False),
        ({}, False),
    ],
)
def test_gap_above_a_twentieth_is_said(facts: dict[str, float], *, is_said: bool) -> None:
    notice = gap_notice(facts, "use more steps")
    assert (notice is not None) == is_said
    if notice:
        assert max(facts, key=lambda name: facts[name]) in notice
        assert notice.endswith("use more steps")


def test_gap_without_remedy_names_other_methods() -> None:
    assert "another method" in str(gap_notice({"gap_gap": 1.0}, ""))


@pytest.mark.parametrize(("steps", "is_said"), [(1, True), (48, False)])
def test_notice_of_a_gap_names_the_target_and_the_remedy(steps: int, *, is_said: bool) -> None:
    explanation = explain("integrated-gradients", NETS["curved"], steps=steps)
    notices = [notice for notice in explanation.notices if "completeness_gap" in notice]
    assert bool(notices) == is_said
    assert any(facts["completeness_gap"] > 0.05 for facts in explanation.facts) == is_said
    for notice in notices:
        assert notice.startswith(explanation.targets[0])
        assert notice.endswith(METHODS["integrated-gradients"].remedy)
