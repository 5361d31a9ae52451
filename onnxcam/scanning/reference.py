"""Background images that others are compared with: their activations, their scores, and which they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from onnxcam.arrays import Floats
from onnxcam.scanning.background import FIRST, Activations, Background
from onnxcam.scanning.search import NodeScores, Ranks, histogram, scan_nodes
from onnxcam.scanning.settings import ScanSettings
from onnxcam.scanning.statistics import STATISTICS

ROUNDING = 1e-12  # scores that differ by less are equal


class Members:
    """The activations of background images, and keys by which an image is recognized as one of them."""

    def __init__(self, nodes: int, expected: int = FIRST) -> None:
        self.activations = Activations(nodes, expected)
        self.numbers: dict[str, int] = {}

    def add(self, activation: Floats, keys: Sequence[str]) -> None:
        """Add an image."""
        self.activations.append(activation)
        for key in keys:
            self.numbers.setdefault(key, self.activations.count - 1)

    def find(self, keys: Sequence[str]) -> int | None:
        """The number of an image; None if it is not among them."""
        return next((self.numbers[key] for key in keys if key in self.numbers), None)


class Comparison(NamedTuple):
    """How unusual the activations of an image are; see `ScannedImage`."""

    score: float
    alpha: float
    p_value: float
    ranks: Ranks
    levels: int
    is_member: bool


class Reference:
    """What images are compared with.

    Attributes:
        background: their activations.
        scores: (B,), those of the background images, each compared with the others, without a scanned image.
    """

    def __init__(self, members: Members, settings: ScanSettings) -> None:
        self._members, self._alpha_max = members, settings.alpha_max
        self._statistic = STATISTICS[settings.statistic]
        columns = members.activations.columns
        self._rows = columns.T.copy() if settings.together else None
        self.background = Background(columns, settings.tail, settings.alpha_max)
        self.scores = self._scan(self.background.histograms, self.background.count).scores

    def compare(self, activation: Floats, keys: Sequence[str]) -> Comparison:
        """An image with activations (C, h, w), compared with all background images other than itself. Its score
        is one of those of all images, the background's and its own, each compared with all others.
        """
        member = self._members.find(keys)
        is_member = member is not None
        levels = self.background.levels - is_member
        ranks = self.background.ranks(activation.reshape(1, -1), is_member=is_member)
        (score,), (rank,) = self._scan(histogram(ranks, levels), levels)
        if member is None:
            others = self._scan(self.background.histograms_with(activation.ravel()), levels).scores
        else:
            others = np.delete(self.scores, member)
        at_least = (others >= score * (1 - ROUNDING)).sum()
        return Comparison(
            score=float(score),
            alpha=float(rank / levels),
            p_value=float((1 + at_least) / (len(others) + 1)),
            ranks=ranks.reshape(activation.shape),
            levels=levels,
            is_member=is_member,
        )

    def ranks_in_place_of(self, scanned: Floats, numbers: NDArray[np.intp]) -> Ranks:
        """(n, nodes): the ranks of background images with these numbers, if scanned images with the activations
        (n, nodes) were in their place. Only if images are scanned together.
        """
        assert self._rows is not None  # noqa: S101  they were kept
        return self.background.ranks_in_place_of(scanned, self._rows[numbers])

    def _scan(self, histograms: Ranks, levels: int) -> NodeScores:
        return scan_nodes(histograms, levels, self._alpha_max, self._statistic)
