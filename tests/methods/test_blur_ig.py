"""`blur-ig` adds up to the difference of the scores of the image and of the blurred image."""

import numpy as np
import pytest

from tests.methods.support.compare import (
    NETS,
    TARGET,
    X,
    assert_attributions,
    assert_close,
    explain,
    stack,
)
from tests.methods.support.image_twins import blur_ig, blurred


@pytest.mark.parametrize("net", NETS)
def test_blur_ig_equals_twin(net: str) -> None:
    assert_attributions(explain("blur-ig", NETS[net]), stack(blur_ig, NETS[net]))
    other = explain("blur-ig", NETS[net], max_sigma=3.0, steps=7)
    assert_close(other.attributions, stack(blur_ig, NETS[net], 3.0, 7))


def test_completeness_gap_shrinks_with_steps() -> None:
    net = NETS["curved"]
    few, many = (explain("blur-ig", net, steps=steps, max_sigma=3.0).facts for steps in (20, 2000))
    for x, coarse, fine in zip(X, few, many, strict=True):
        assert fine["baseline_score"] == pytest.approx(net.logits(blurred(x, 3.0))[TARGET], 1e-5)
        assert fine["completeness_gap"] < 0.1 * coarse["completeness_gap"]


def test_attributions_do_not_depend_on_chunks() -> None:
    expected = explain("blur-ig", NETS["curved"], steps=11)
    for chunk in (1, 3, 11):
        actual = explain("blur-ig", NETS["curved"], steps=11, chunk=chunk)
        assert_close(actual.attributions, np.asarray(expected.attributions))


def test_no_blur_leaves_nothing_to_explain() -> None:
    explanation = explain("blur-ig", NETS["curved"], max_sigma=0.0)
    assert not explanation.maps.any()
    assert explanation.is_empty.all()
