"""How unusual a group of images is: its scores, and those of groups of background images.

The background is divided at random into groups of the same size, with as many images of each class. Each group,
the scanned one and the others, is compared with all images that do not belong to it, so that all have the same
number to be compared with. If the scanned images are of the same kind as the background, any of the groups may
be the most unusual one: p = (1 + #{groups with at least its score}) / (number of groups + 1) is uniform.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from onnxcam.arrays import Floats
from onnxcam.scanning.reference import ROUNDING, Reference
from onnxcam.scanning.search import (
    Block,
    Mask,
    Ranks,
    ascend,
    best_columns,
    choose_thresholds,
    largest_rank,
)
from onnxcam.scanning.settings import ScanSettings
from onnxcam.scanning.statistics import STATISTICS

LEAST, MOST = (
    19,
    99,
)  # groups of background images: a p-value of 0.05 is possible; more take too long
GroupCallback = Callable[[int, int], None]  # the number of a group, and of how many


class GroupScores(NamedTuple):
    """The scores of a group of images.

    block: the images (rows) and nodes (columns) that are most unusual together, from an ascent.
    common_score: the score of all images with the nodes `common` (nodes,): exact.
    """

    block: Block
    common_score: float
    common: Mask


def score_group(ranks: Ranks, levels: int, settings: ScanSettings) -> GroupScores:
    """The scores of images with the ranks (n, nodes) of p-values, which are the ranks divided by `levels`."""
    statistic = STATISTICS[settings.statistic]
    block = ascend(
        ranks,
        levels,
        settings.alpha_max,
        statistic,
        restarts=settings.restarts,
        seed=settings.seed,
    )
    thresholds = choose_thresholds(ranks, largest_rank(settings.alpha_max, levels))
    if not len(thresholds):
        return GroupScores(block, 0.0, np.zeros(ranks.shape[1], bool))
    score, _, common = best_columns(ranks, levels, thresholds, statistic)
    return GroupScores(block, score, common)


def needed_images(sizes: Mapping[int, int]) -> dict[int, int]:
    """How many background images of each class a group needs, of whose images these are the classes."""
    return {label: LEAST * size for label, size in sizes.items()}


def background_groups(
    sizes: Mapping[int, int], counts: Mapping[int, int], seed: int
) -> list[dict[int, NDArray[np.intp]]]:
    """Disjoint groups of background images: for each class as many numbers as `sizes` says, of those below
    `counts`; at most `MOST` groups.
    """
    random = np.random.default_rng(seed)
    orders = {label: random.permutation(counts[label]) for label in sorted(sizes)}
    groups = min(MOST, *(counts[label] // size for label, size in sizes.items()))
    return [
        {label: orders[label][n * size : (n + 1) * size] for label, size in sizes.items()}
        for n in range(groups)
    ]


def score_background_groups(
    references: Mapping[int, Reference],
    scanned: Mapping[int, Floats],
    settings: ScanSettings,
    progress: GroupCallback,
) -> Floats:
    """(groups, 2): the score of the block and the common score of groups of background images, in the place of
    images with these activations (n, nodes) of each class.
    """
    sizes = {label: len(rows) for label, rows in scanned.items()}
    counts = {label: references[label].background.count for label in sizes}
    groups, scores = background_groups(sizes, counts, settings.seed), []
    levels = max(references[label].background.levels for label in sizes)
    for number, group in enumerate(groups, 1):
        ranks = [
            at_levels(references[label].ranks_in_place_of(rows, group[label]), label_levels, levels)
            for label, rows in scanned.items()
            for label_levels in [references[label].background.levels]
        ]
        result = score_group(np.concatenate(ranks), levels, settings)
        scores.append((result.block.score, result.common_score))
        progress(number, len(groups))
    return np.array(scores).reshape(-1, 2)


def p_value(score: float, others: Floats) -> float:
    """The share of scores that are at least this one, of the others and itself."""
    return float((1 + (others >= score * (1 - ROUNDING)).sum()) / (len(others) + 1))


def at_levels(ranks: Ranks, levels: int, new_levels: int) -> Ranks:
    """The ranks of p-values among another number of levels, rounded up."""
    return -(-ranks.astype(np.int64) * new_levels // levels)
