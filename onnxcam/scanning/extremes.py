"""The background activations with small p-values, whose ranks move when an image joins the background.

An image can be compared fairly with the scores of background images only if these were compared with as many
images as it was: a p-value of 2 / 20 has no counterpart among multiples of 1 / 19. So the image itself joins
what they are compared with. Of their p-values, only those up to alpha_max matter.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from onnxcam.arrays import Floats


class Extremes(NamedTuple):
    """Activations of the background with small ranks, node by node.

    nodes: which nodes these are.
    counts: (nodes,), how many of the activations are those of a node.
    members, ranks: (E,), the number of the image, and the rank of its p-value among the others.
    bounds: (E,) float32, the smallest value of `sign` times the activation of another image that is at least as
        extreme, so that the rank grows.
    sign: 1 where large activations are extreme, -1 where small ones are.
    """

    nodes: slice
    counts: NDArray[np.integer]
    members: NDArray[np.integer]
    ranks: NDArray[np.integer]
    bounds: NDArray[np.float32]
    sign: int

    def count_moved(self, activation: Floats, shape: tuple[int, int]) -> NDArray[np.int64]:
        """(B, last), the `shape`: of each background image and rank, the nodes whose rank grows when an image
        with this activation (all nodes,) joins the others.
        """
        values = np.repeat(self.sign * activation[self.nodes], self.counts)
        is_moved = values >= self.bounds
        cells = self.members[is_moved].astype(np.int64) * shape[1] + self.ranks[is_moved] - 1
        return np.bincount(cells, minlength=shape[0] * shape[1]).reshape(shape)


class Ordered(NamedTuple):
    """The activations (nodes, B) of some `nodes`, sorted along the images; `order` has the images' numbers.
    `larger` and `smaller` of the others are at least as large, and at least as small, if these are counted.
    """

    nodes: slice
    values: NDArray[np.float32]
    order: NDArray[np.integer]
    larger: NDArray[np.integer] | None
    smaller: NDArray[np.integer] | None


def find_extremes(ordered: Ordered, ranks: NDArray[np.integer], last: int) -> list[Extremes]:
    """Those with a rank of at most `last`, on each of the sides that count."""
    larger, smaller = ordered.larger, ordered.smaller
    is_small = ranks <= last
    if larger is None or smaller is None:
        return [_side(ordered, ranks, is_small, -1 if larger is None else 1)]
    # a rank of two sides that was cut off at B grows with the number of images, whatever the image is
    is_cut = 2 * (1 + np.minimum(larger, smaller)) > ranks
    is_right = larger <= smaller
    return [
        _side(ordered, ranks, is_small & is_right, 1, is_cut),
        _side(ordered, ranks, is_small & ~is_right, -1, is_cut),
    ]


def _side(
    ordered: Ordered,
    ranks: NDArray[np.integer],
    chosen: NDArray[np.bool_],
    sign: int,
    is_cut: NDArray[np.bool_] | None = None,
) -> Extremes:
    bounds = sign * ordered.values[chosen]
    if is_cut is not None:
        bounds[is_cut[chosen]] = -np.inf
    smallest: Any = np.min_scalar_type(ranks.shape[1])
    return Extremes(
        nodes=ordered.nodes,
        counts=chosen.sum(axis=1),
        members=ordered.order[chosen].astype(smallest),
        ranks=ranks[chosen].astype(smallest),
        bounds=bounds,
        sign=sign,
    )
