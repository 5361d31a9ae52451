"""`guided-ig` integrates the gradient over a path on which small gradients come first."""

from typing import Any

import numpy as np
import pytest

from onnxcam.arrays import Floats
from onnxcam.methods.samplers.guided_path import advance
from tests.methods.support.compare import (
    NETS,
    TARGET,
    X,
    assert_attributions,
    assert_close,
    explain,
    stack,
)
from tests.methods.support.image_twins import guided_ig
from tests.support.layered_nets import CURVED, LayeredNet
from tests.support.nets import random_images

NAME = "guided-ig"
START = random_images(1, seed=9)[0]  # of a constant image, maxima would depend on rounding


@pytest.mark.parametrize("net", NETS)
def test_guided_ig_equals_twin(net: str) -> None:
    actual = explain(NAME, NETS[net], steps=20)
    assert_attributions(actual, stack(guided_ig, NETS[net], 0.0, 20))
    other = explain(NAME, NETS[net], baseline=START, steps=9, fraction=0.1, max_distance=0.3)
    assert_close(other.attributions, stack(guided_ig, NETS[net], START, 9, 0.1, 0.3))


def test_no_distance_is_the_straight_line() -> None:
    def line(net: LayeredNet, x: Floats, target: int) -> Floats:
        """Integrated gradients as a sum over the left ends of 7 equal steps."""
        gradients = [net.gradient(x * (step / 7), target) for step in range(7)]
        return np.asarray(x * np.mean(gradients, axis=0))

    straight = np.asarray(explain(NAME, CURVED, steps=7, max_distance=0.0).attributions)
    assert_close(straight, stack(line, CURVED))
    guided = np.asarray(explain(NAME, CURVED, steps=7, max_distance=1.0).attributions)
    assert np.abs(guided - straight).max() > 0.1 * np.abs(straight).max()


def test_completeness_gap_shrinks_with_steps() -> None:
    few, many = (explain(NAME, CURVED, steps=steps).facts for steps in (10, 200))
    expected = CURVED.logits(np.zeros(X[0].shape))[TARGET]
    for coarse, fine in zip(few, many, strict=True):
        assert fine["baseline_score"] == pytest.approx(expected, rel=1e-5)
        assert fine["completeness_gap"] < 0.2 * coarse["completeness_gap"]


def test_explanation_of_the_baseline_itself_is_empty() -> None:
    explanation = explain(NAME, CURVED, baseline=X[0], steps=3)
    assert not explanation.maps[0].any()
    assert explanation.maps[1].any()


# The path


LENGTHS = np.array([1.0, 2.0, 0.0, 3.0, 2.0])
GRADIENT = np.array([0.3, 0.1, 0.0, 0.4, 0.2])


def step(shares: Any, goal: float, fraction: float = 0.25, distance: float = 1.0) -> list[float]:
    moved = advance(np.array(shares), LENGTHS, GRADIENT, goal, fraction, distance)
    assert np.sum(moved * LENGTHS) == pytest.approx(goal * LENGTHS.sum())
    return [round(float(share), 6) for share in moved]


def test_values_with_the_smallest_gradients_move_first() -> None:
    """Two at a time: a quarter of the ranks 0 to 4 is rank 1. Values without a way do not count."""
    assert step(np.zeros(5), 0.25) == [0, 0.5, 0, 0, 0.5]
    assert step(np.zeros(5), 0.5) == [0, 1, 0, 0, 1]
    assert step(np.zeros(5), 0.75) == [0.5, 1, 0, 0.5, 1]
    assert step(np.zeros(5), 1.0) == [1, 1, 0, 1, 1]


def test_fraction_of_nothing_moves_one_value_at_a_time() -> None:
    assert step(np.zeros(5), 0.375, fraction=0.0) == [0, 1, 0, 0, 0.5]
    assert step(np.zeros(5), 0.375, fraction=1.0) == [0.375, 0.375, 0.0, 0.375, 0.375]


def test_no_value_is_farther_from_the_line_than_allowed() -> None:
    moved = step([0.0, 0.6, 0.0, 0.4, 0.5], 0.5, distance=0.125)
    assert moved == [0.375, 0.61875, 0.375, 0.4, 0.59375]


def test_gradients_that_are_not_finite_do_not_hold_the_path_up() -> None:
    moved = advance(np.zeros(2), np.ones(2), np.array([np.inf, np.nan]), 0.5, 0.25, 1.0)
    np.testing.assert_array_equal(moved, [0, 0])
