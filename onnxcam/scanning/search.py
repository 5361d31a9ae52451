"""The subset of nodes, or of rows and columns, with the most unusual p-values.

A p-value is written as its rank: the p-value of rank r of `levels` is r / levels. The score of a subset is the
largest phi(hits, total, alpha) over the levels alpha <= alpha_max, which are ranks, too: between two of them
no hit is added, and a statistic falls with alpha.

For a fixed alpha, nodes are ordered by their share of hits, and the best subset is a prefix in this order (the
linear-time property: Neill 2012; McFowland, Speakman and Neill 2013). Nodes with equal shares are all in it or
all out of it. So `scan_nodes` and `best_columns` are exact. `ascend` alternates between the rows and the
columns, and ends at a local maximum.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from onnxcam.arrays import Floats
from onnxcam.scanning.statistics import Statistic

Ranks = NDArray[np.integer]  # 1 to levels
Mask = NDArray[np.bool_]
MOST_THRESHOLDS = 100  # levels that `ascend` tries; of more, as many are taken in equal steps
RESTARTS = 5


def histogram(ranks: Ranks, levels: int) -> NDArray[np.int64]:
    """(N, levels): how many nodes of (N, nodes) have each rank."""
    rows = np.arange(len(ranks))[:, None] * levels
    counts = np.bincount((rows + ranks - 1).ravel(), minlength=len(ranks) * levels)
    return counts.reshape(len(ranks), levels)


class NodeScores(NamedTuple):
    """The scores (N,) of N images, and the ranks (N,) of their alphas; 0 where no node has a p-value of at most
    alpha_max. The best subset of an image holds the nodes of at most this rank.
    """

    scores: Floats
    ranks: NDArray[np.intp]


class Block(NamedTuple):
    """The rows and columns of a subset, its score, and the rank of its alpha."""

    score: float
    rank: int
    rows: Mask
    columns: Mask


def largest_rank(alpha_max: float, levels: int) -> int:
    """The rank of the largest p-value that is at most alpha_max and below 1; 0 if there is none."""
    return min(int(np.floor(alpha_max * levels * (1 + 1e-12))), levels - 1)


def scan_nodes(
    histograms: NDArray[np.integer], levels: int, alpha_max: float, statistic: Statistic
) -> NodeScores:
    """The exact scores of images, from the numbers (N, levels) of their nodes of each rank; ranks beyond
    alpha_max may be left out.

    The best subset has only hits: another node would add to the total alone. So there is one subset to
    score for each rank.
    """
    last = largest_rank(alpha_max, levels)
    hits = np.cumsum(histograms[:, :last], axis=1)
    if not last:
        none = np.zeros(len(histograms))
        return NodeScores(none, none.astype(np.intp))
    scores = statistic(hits, hits, np.arange(1, last + 1) / levels)
    best = scores.argmax(axis=1)
    best_scores = scores[np.arange(len(scores)), best]
    return NodeScores(best_scores, np.where(best_scores > 0, best + 1, 0))


def best_columns(
    ranks: Ranks, levels: int, thresholds: NDArray[np.integer], statistic: Statistic
) -> tuple[float, int, Mask]:
    """The exact best subset of the columns of (rows, columns) for all of these rows: its score, the rank of its
    alpha, which is one of the ascending `thresholds`, and the columns.
    """
    hits = _count_hits(ranks, thresholds)
    few = len(ranks) < len(hits[0])
    least, sums, counts = _order_by_ties(hits, len(ranks)) if few else _order_one_by_one(hits)
    totals = len(ranks) * np.maximum(counts, 1)
    scores = statistic(sums, totals, thresholds[:, None] / levels)
    threshold, last = np.unravel_index(scores.argmax(), scores.shape)
    score = float(scores[threshold, last])
    chosen = hits[threshold] >= np.broadcast_to(least, scores.shape)[threshold, last]
    return score, int(thresholds[threshold]) if score else 0, chosen & (score > 0)


Prefixes = tuple[NDArray[np.integer], NDArray[np.integer], NDArray[np.integer]]


def _order_one_by_one(hits: NDArray[np.integer]) -> Prefixes:
    """The prefixes of columns, ordered by their `hits` (thresholds, columns): the hits of the last one of each,
    those of all of them, and how many there are.
    """
    ordered = -np.sort(-hits, axis=1)
    return ordered, np.cumsum(ordered, axis=1), np.arange(1, hits.shape[1] + 1)


def _order_by_ties(hits: NDArray[np.integer], rows: int) -> Prefixes:
    """The same of prefixes that end where a column has fewer hits: one for each number of hits up to that of
    the rows, which are fewer than the columns.
    """
    numbers = np.arange(rows, -1, -1)
    cells = hits + (rows + 1) * np.arange(len(hits))[:, None]
    tallies = np.bincount(cells.ravel(), minlength=(rows + 1) * len(hits))
    ties = tallies.reshape(len(hits), rows + 1)[:, ::-1]
    return numbers, np.cumsum(ties * numbers, axis=1), np.cumsum(ties, axis=1)


def _count_hits(ranks: Ranks, thresholds: NDArray[np.integer]) -> NDArray[np.int64]:
    """(thresholds, columns): how many rows of a column have at most the rank of the threshold."""
    first = np.searchsorted(thresholds, ranks)  # the first threshold that a rank is a hit of
    bins = len(thresholds) + 1
    cells = first + bins * np.arange(ranks.shape[1])
    counts = np.bincount(cells.ravel(), minlength=bins * ranks.shape[1])
    return np.cumsum(counts.reshape(-1, bins)[:, :-1], axis=1).T


def choose_thresholds(ranks: Ranks, last: int, most: int = MOST_THRESHOLDS) -> NDArray[np.intp]:
    """The ranks up to the last that occur, ascending; at most so many."""
    occurring = np.unique(ranks[ranks <= last])
    if len(occurring) <= most:
        return occurring.astype(np.intp)
    steps = np.linspace(0, len(occurring) - 1, most).round().astype(np.intp)
    return occurring[steps].astype(np.intp)


def ascend(
    ranks: Ranks,
    levels: int,
    alpha_max: float,
    statistic: Statistic,
    *,
    restarts: int = RESTARTS,
    seed: int = 0,
) -> Block:
    """A block of rows and columns with a high score: the best of ascents from all rows, all columns, the best
    single row or column, and as many random sets of rows as `restarts`. It is not always the best block.
    """
    thresholds = choose_thresholds(ranks, largest_rank(alpha_max, levels))
    best = Block(0.0, 0, np.zeros(len(ranks), bool), np.zeros(ranks.shape[1], bool))
    if not len(thresholds):
        return best
    random = np.random.default_rng(seed)
    for axis in (ranks, ranks.T):
        starts = [np.ones(len(axis), bool), _best_row(axis, levels, alpha_max, statistic)]
        starts += [_random_part(len(axis), random) for _ in range(restarts if axis is ranks else 0)]
        for rows in starts:
            block = _ascend_from(rows, axis, levels, thresholds, statistic)
            if block.score > best.score:
                turned = block._replace(rows=block.columns, columns=block.rows)
                best = block if axis is ranks else turned
    return best


def _best_row(ranks: Ranks, levels: int, alpha_max: float, statistic: Statistic) -> Mask:
    """The row whose best nodes have the highest score."""
    scores = scan_nodes(histogram(ranks, levels), levels, alpha_max, statistic).scores
    return np.asarray(np.arange(len(ranks)) == scores.argmax())


def _random_part(count: int, random: np.random.Generator) -> Mask:
    """A random part, of at least one."""
    chosen = random.random(count) < random.random()
    chosen[random.integers(count)] = True
    return chosen


def _ascend_from(
    rows: Mask, ranks: Ranks, levels: int, thresholds: NDArray[np.intp], statistic: Statistic
) -> Block:
    """The block that alternating steps reach from some rows: no step lowers the score."""
    best = Block(0.0, 0, rows & False, np.zeros(ranks.shape[1], bool))
    while True:
        _, _, columns = best_columns(ranks[rows], levels, thresholds, statistic)
        if not columns.any():
            return best
        score, rank, rows = best_columns(ranks[:, columns].T, levels, thresholds, statistic)
        if score <= best.score * (1 + 1e-12):
            return best
        best = Block(score, rank, rows, columns)
