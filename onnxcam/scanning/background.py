"""What is usual: the activations of the nodes of a layer on background images, and p-values against them.

The empirical p-value of an activation among B background ones is (1 + those at least as large) / (B + 1)
(Speakman et al. 2018). Among equal activations, such as the zeros of a ReLU, it is large. A background image is
compared with the B - 1 others.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from onnxcam.arrays import Floats
from onnxcam.errors import SettingError
from onnxcam.scanning.extremes import Extremes, Ordered, find_extremes
from onnxcam.scanning.search import Ranks, largest_rank

Tail: TypeAlias = Literal["right", "left", "both"]
TAILS: tuple[Tail, ...] = get_args(Tail)
CHUNK = 1 << 21  # activations that are sorted or compared at a time
FIRST = 64  # background images that there is room for at first


class Activations:
    """The activations (nodes, B) of background images, which are added one by one."""

    def __init__(self, nodes: int, expected: int = FIRST) -> None:
        self._values = np.empty((nodes, max(expected, 1)), np.float32)
        self._count = 0

    def append(self, activation: Floats) -> None:
        """Add those of one image, (nodes,) or (C, h, w)."""
        if self._count == self._values.shape[1]:
            self._values = np.concatenate([self._values, np.empty_like(self._values)], axis=1)
        self._values[:, self._count] = activation.ravel()
        self._count += 1

    @property
    def count(self) -> int:
        """The number of images so far."""
        return self._count

    @property
    def columns(self) -> NDArray[np.float32]:
        """(nodes, B): those of all images so far; not a copy."""
        return self._values[:, : self._count]


class Background:
    """The sorted activations of B images at each node of a layer.

    Args:
        activations: (nodes, B), in the order of the images; sorted in place along the images.
        tail: whether large activations are unusual ("right"), small ones ("left"), or both.
        alpha_max: the largest p-value that `histograms_with` counts.

    Attributes:
        histograms: (B, B): for each of its images the numbers of nodes with the rank 1 to B of their p-value
            among the others, which is rank / B.
    """

    def __init__(
        self, activations: NDArray[np.float32], tail: str = "right", alpha_max: float = 1.0
    ) -> None:
        if tail not in TAILS:
            raise SettingError(f"tail {tail!r}: expected {', '.join(TAILS)}")
        self._sorted, self.tail = activations, tail
        self.nodes, self.count = activations.shape
        self.histograms = np.zeros((self.count, self.count), np.int64)
        self._last = largest_rank(alpha_max, self.levels)
        self._extremes: list[Extremes] = []
        for part in self._parts(self.count):
            self._sort(part)

    @property
    def levels(self) -> int:
        """The p-values of another image are its ranks divided by this."""
        return self.count + 1

    def ranks(self, activations: Floats, *, is_member: bool = False) -> Ranks:
        """(N, nodes): the ranks of the p-values of N images. The p-value is the rank divided by `levels`; of
        images that belong to the background by `levels` - 1: they are not compared with themselves.
        """
        columns = np.asarray(activations, np.float32).reshape(len(activations), -1).T
        ranks = np.empty(columns.shape, np.int32)
        levels = self.levels - is_member
        for part in self._parts(max(self.count, len(activations))):
            values, ordered = columns[part], self._sorted[part]
            larger = smaller = None
            if self.tail != "left":
                larger = self.count - _count_below(ordered, values) - is_member
            if self.tail != "right":
                smaller = _count_below(ordered, values, with_equal=True) - is_member
            ranks[part] = _to_ranks(larger, smaller, levels)
        return ranks.T

    def ranks_in_place_of(self, newcomers: Floats, members: Floats) -> Ranks:
        """(n, nodes): the ranks of n images of the background, with the activations `members` (n, nodes), if as
        many `newcomers` are in their place: compared with these and with the others. The p-value is the rank
        divided by `levels`.
        """
        columns, new = (np.asarray(rows, np.float32).T for rows in (members, newcomers))
        ranks = np.empty(columns.shape, np.int32)
        for part in self._parts(max(self.count, len(members))):
            values = columns[part]
            sets = [(1, self._sorted[part]), (-1, np.sort(values)), (1, np.sort(new[part]))]
            larger: Any = None
            smaller: Any = None
            if self.tail != "left":
                larger = sum(
                    sign * (row.shape[1] - _count_below(row, values)) for sign, row in sets
                )
            if self.tail != "right":
                smaller = sum(
                    sign * _count_below(row, values, with_equal=True) for sign, row in sets
                )
            ranks[part] = _to_ranks(larger, smaller, self.levels)
        return ranks.T

    def histograms_with(self, activation: Floats) -> NDArray[np.int64]:
        """(B, last): for each background image the numbers of nodes with the ranks up to alpha_max among the
        others and an image with this activation (nodes,): of p-values that are the rank divided by `levels`.
        """
        histograms = self.histograms[:, : self._last].copy()
        values, step = np.asarray(activation, np.float32), 2 if self.tail == "both" else 1
        for extremes in self._extremes:
            moved = extremes.count_moved(values, histograms.shape)
            histograms -= moved
            histograms[:, step:] += moved[:, :-step]
        return histograms

    def _parts(self, images: int) -> Iterator[slice]:
        """Nodes that are compared at a time."""
        step = max(1, CHUNK // max(images, 1))
        for start in range(0, self.nodes, step):
            yield slice(start, start + step)

    def _sort(self, part: slice) -> None:
        """Sort the activations of some nodes, and count the ranks of their images."""
        order = np.argsort(self._sorted[part], axis=1, kind="stable")
        ordered = np.take_along_axis(self._sorted[part], order, axis=1)
        self._sorted[part] = ordered
        is_first = np.ones(ordered.shape, bool)
        is_first[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
        last, positions = self.count - 1, np.arange(self.count)
        larger = smaller = None
        if self.tail != "left":
            larger = last - np.maximum.accumulate(np.where(is_first, positions, 0), axis=1)
        if self.tail != "right":
            is_last = np.roll(is_first, -1, axis=1)
            is_last[:, -1] = True
            ends = np.where(is_last, positions, last)[:, ::-1]
            smaller = np.minimum.accumulate(ends, axis=1)[:, ::-1]
        ranks = _to_ranks(larger, smaller, self.count)
        ordering = Ordered(part, ordered, order, larger, smaller)
        self._extremes += find_extremes(ordering, ranks, self._last)
        cells = order * self.count + ranks - 1
        counts = np.bincount(cells.ravel(), minlength=self.count**2)
        self.histograms += counts.reshape(self.histograms.shape)


def _to_ranks(larger: Ranks | None, smaller: Ranks | None, levels: int) -> Ranks:
    """The ranks of p-values, from how many others are at least as large, at least as small, or both: that of
    two tails is twice the smaller one.
    """
    if larger is not None and smaller is not None:
        return np.minimum(2 * (1 + np.minimum(larger, smaller)), levels)
    counts = larger if larger is not None else smaller
    assert counts is not None  # noqa: S101  there is a tail
    return counts + 1


def _count_below(
    ordered: NDArray[np.float32], values: Floats, *, with_equal: bool = False
) -> NDArray[np.int32]:
    """(nodes, N): how many of (nodes, B), sorted along B, are below the values (nodes, N), or equal to them: a
    binary search in all rows at once.
    """
    count = ordered.shape[1]
    below = np.zeros(values.shape, np.int32)
    step = 1 << (count.bit_length() - 1) if count else 0
    while step:
        position = below + step
        pivot = np.take_along_axis(ordered, np.minimum(position, count) - 1, axis=1)
        is_below = (pivot <= values) if with_equal else (pivot < values)
        below = np.where(is_below & (position <= count), position, below)
        step >>= 1
    return below
