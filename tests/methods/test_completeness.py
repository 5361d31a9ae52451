"""The completeness gap is relative to the difference of scores, unless that is nearly nothing."""

import numpy as np
import pytest

from onnxcam.methods.completeness import completeness


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
