"""The best subsets: exact against every subset of small cases, and what ascent promises."""

from itertools import combinations

import numpy as np
import pytest

from onnxcam.scanning.search import (
    Ranks,
    ascend,
    best_columns,
    choose_thresholds,
    histogram,
    largest_rank,
    scan_nodes,
)
from onnxcam.scanning.statistics import STATISTICS, Statistic

ALPHAS = (0.08, 0.3, 0.5, 0.99)


def score_block(block: Ranks, levels: int, alpha_max: float, statistic: Statistic) -> float:
    """F of a block, as the paper defines it: the largest statistic of all levels below 1."""
    alphas = [rank / levels for rank in range(1, levels) if rank / levels <= alpha_max + 1e-12]
    scores = (
        float(statistic((block <= alpha * levels + 1e-9).sum(), block.size, alpha))
        for alpha in alphas
    )
    return max(scores, default=0.0)


def best_of_all(ranks: Ranks, levels: int, alpha_max: float, statistic: Statistic) -> float:
    """The score of the best subset of columns for all rows: every subset is tried."""
    rows, columns = ranks.shape
    subsets = np.arange(1, 2**columns)[:, None] >> np.arange(columns) & 1
    scores = [
        statistic(subsets @ (ranks <= rank).sum(axis=0), rows * subsets.sum(axis=1), rank / levels)
        for rank in range(1, levels)
        if rank / levels <= alpha_max + 1e-12
    ]
    return float(np.max(scores, initial=0.0))


def random_ranks(seed: int, rows: int, columns: int) -> tuple[Ranks, int]:
    """Ranks with many ties, some of them too small to be chance."""
    rng = np.random.default_rng(seed)
    levels = int(rng.integers(2, 15))
    low = rng.random((rows, columns)) < 0.3
    ranks = np.where(low, rng.integers(1, 1 + (levels + 2) // 3, low.shape), 0)
    return np.where(low, ranks, rng.integers(1, levels + 1, low.shape)), levels


@pytest.mark.parametrize("name", STATISTICS)
@pytest.mark.parametrize("alpha_max", ALPHAS)
@pytest.mark.parametrize("seed", range(6))
def test_node_score_equals_that_of_the_best_of_all_subsets(
    name: str, alpha_max: float, seed: int
) -> None:
    statistic = STATISTICS[name]
    ranks, levels = random_ranks(seed, 1, 12 if seed == 0 else 1 + seed)
    scores = scan_nodes(histogram(ranks, levels), levels, alpha_max, statistic)
    expected = best_of_all(ranks, levels, alpha_max, statistic)
    assert scores.scores[0] == pytest.approx(expected)
    subset = ranks <= scores.ranks[0]
    assert score_block(ranks[subset][None], levels, alpha_max, statistic) == pytest.approx(expected)


@pytest.mark.parametrize("name", STATISTICS)
@pytest.mark.parametrize("alpha_max", ALPHAS)
@pytest.mark.parametrize("rows", [2, 5])
@pytest.mark.parametrize("seed", range(4))
def test_columns_have_the_score_of_the_best_of_all_subsets(
    name: str, alpha_max: float, rows: int, seed: int
) -> None:
    statistic = STATISTICS[name]
    ranks, levels = random_ranks(seed, rows, 5 + seed)
    thresholds = choose_thresholds(ranks, largest_rank(alpha_max, levels))
    expected = best_of_all(ranks, levels, alpha_max, statistic)
    if not len(thresholds):
        assert expected == 0
        return
    score, rank, columns = best_columns(ranks, levels, thresholds, statistic)
    assert score == pytest.approx(expected)
    if score:
        hits = (ranks[:, columns] <= rank).sum()
        assert statistic(hits, ranks[:, columns].size, rank / levels) == pytest.approx(expected)


@pytest.mark.parametrize("name", STATISTICS)
@pytest.mark.parametrize("seed", range(8))
def test_ascent_is_never_above_the_best_block_and_reaches_most_of_it(name: str, seed: int) -> None:
    statistic = STATISTICS[name]
    ranks, levels = random_ranks(seed, 4, 6)
    best = max(
        best_of_all(ranks[list(rows)], levels, 0.5, statistic)
        for size in range(1, 5)
        for rows in combinations(range(4), size)
    )
    block = ascend(ranks, levels, 0.5, statistic, seed=seed)
    assert 0.95 * best <= block.score <= best * (1 + 1e-9)
    if best:
        inside = ranks[np.ix_(block.rows, block.columns)]
        hits = (inside <= block.rank).sum()
        assert statistic(hits, inside.size, block.rank / levels) == pytest.approx(block.score)


@pytest.mark.parametrize("name", STATISTICS)
def test_block_is_at_least_as_unusual_as_the_best_row_alone(name: str) -> None:
    statistic = STATISTICS[name]
    ranks = np.random.default_rng(2).integers(1, 31, (9, 200))
    best = scan_nodes(histogram(ranks, 30), 30, 0.3, statistic).scores.max()
    assert ascend(ranks, 30, 0.3, statistic, restarts=0).score >= best * (1 - 1e-12)


def test_ascent_finds_a_planted_block() -> None:
    rng = np.random.default_rng(0)
    ranks = rng.integers(1, 101, (40, 30))
    ranks[5:13, 20:27] = rng.integers(1, 4, (8, 7))
    block = ascend(ranks, 100, 0.1, STATISTICS["berk-jones"])
    assert np.flatnonzero(block.rows).tolist() == list(range(5, 13))
    assert np.flatnonzero(block.columns).tolist() == list(range(20, 27))
    assert block.rank == 3


def test_ascent_with_the_same_seed_repeats_and_from_one_start_does_not_exceed_several() -> None:
    ranks = np.random.default_rng(1).integers(1, 21, (12, 15))
    statistic = STATISTICS["higher-criticism"]
    first, again = (ascend(ranks, 20, 0.3, statistic, seed=3) for _ in range(2))
    assert first.score == again.score
    assert (first.rows == again.rows).all()
    assert ascend(ranks, 20, 0.3, statistic, restarts=0).score <= first.score


def test_subset_without_small_p_values_is_empty() -> None:
    ranks = np.full((3, 4), 9)
    scores = scan_nodes(histogram(ranks, 10), 10, 0.5, STATISTICS["berk-jones"])
    block = ascend(ranks, 10, 0.5, STATISTICS["berk-jones"])
    assert scores.scores.tolist() == [0, 0, 0]
    assert not (ranks <= scores.ranks[:, None]).any()
    assert block.score == 0
    assert not block.rows.any()
    assert not block.columns.any()


@pytest.mark.parametrize(
    ("alpha_max", "levels", "rank"),
    [(0.1, 10, 1), (0.3, 10, 3), (0.05, 10, 0), (0.5, 401, 200), (1.0, 10, 9)],
)
def test_largest_rank_is_that_of_alpha_max(alpha_max: float, levels: int, rank: int) -> None:
    assert largest_rank(alpha_max, levels) == rank


def test_thresholds_are_thinned_out_but_keep_both_ends() -> None:
    thresholds = choose_thresholds(np.arange(1, 1001)[None], 500, most=7)
    assert len(thresholds) == 7
    assert (thresholds[0], thresholds[-1]) == (1, 500)
