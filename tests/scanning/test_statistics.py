"""Scan statistics: their values, where they are 0, and what makes the best subset a prefix."""

import math

import numpy as np
import pytest

from onnxcam.scanning.statistics import STATISTICS, berk_jones, higher_criticism


def test_berk_jones_is_the_divergence_of_the_share_of_hits() -> None:
    expected = 3 * math.log(3 / 10 / 0.1) + 7 * math.log(7 / 10 / 0.9)
    assert berk_jones(3, 10, 0.1) == pytest.approx(expected)


def test_berk_jones_of_hits_alone_is_their_number_times_the_log() -> None:
    assert berk_jones(4, 4, 0.2) == pytest.approx(4 * math.log(5))


def test_higher_criticism_is_the_excess_in_standard_deviations() -> None:
    assert higher_criticism(30, 100, 0.2) == pytest.approx(10 / 4)


@pytest.mark.parametrize("name", STATISTICS)
@pytest.mark.parametrize("hits", [0, 1, 2])
def test_statistic_of_no_more_hits_than_by_chance_is_zero(name: str, hits: int) -> None:
    assert STATISTICS[name](hits, 10, 0.2) == 0.0


@pytest.mark.parametrize("name", STATISTICS)
def test_statistic_of_no_nodes_is_zero(name: str) -> None:
    assert STATISTICS[name](0, 0, 0.2) == 0.0


@pytest.mark.parametrize("name", STATISTICS)
def test_statistic_grows_with_hits_and_falls_with_alpha(name: str) -> None:
    statistic = STATISTICS[name]
    assert (np.diff(statistic(np.arange(3, 11), 10, 0.25)) > 0).all()
    assert (np.diff(statistic(8, 10, np.linspace(0.01, 0.79, 40))) < 0).all()


@pytest.mark.parametrize("name", STATISTICS)
def test_statistic_on_a_line_is_largest_at_an_end(name: str) -> None:
    rng = np.random.default_rng(0)
    for _ in range(500):
        totals = rng.integers(1, 50, 2)
        hits = rng.integers(0, totals + 1)
        shares = np.linspace(0, 1, 21)[:, None] * [-1, 1] + [1, 0]
        scores = STATISTICS[name](shares @ hits, shares @ totals, rng.uniform(0.01, 0.9))
        assert scores.max() <= max(scores[0], scores[-1]) + 1e-9
