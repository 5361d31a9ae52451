"""Tell evidence from rounding errors: what is 0 in theory may be computed as 1e-11, and maps have no unit.

Two values can be 0 in theory but not in floating point: a gradient (before a normalization and a mean, or of a
probability of 1), and a formula's sum of gradients that are not 0 (the mean of a gradient before a standard
deviation). A small map proves neither, since scores and layers may have any unit. So small maps are computed
again for nearby inputs: evidence stays nearly the same, rounding errors do not. Real models rarely have maps
as small as SMALL (the smallest of 45 were 2e-3 for a probability near 1, 1e-2 for logits), so most runs need
no extra pass.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from onnxcam.arrays import Floats, Saliency
from onnxcam.methods.quantities import QUANTITIES

SMALL = 1e-3  # fraction of a layer's values or of the score, or of the sum of a formula's terms
UNSURE = 4.0  # rounding errors of the score: a layer that changes it by less has no effect
SPREAD = 16.0  # rounding errors: gradients of samples that differ by less are the same
TOLERANCE = 0.5  # of repeated computations of one value, as a fraction of the largest
CELLS = (2, 3)


def first_order(quantities: Mapping[str, Floats]) -> Floats | None:
    """(N, C, h, w): the gradient among the quantities of a layer, or its mean over samples, or else its root
    mean square; None if there is none.
    """
    gradient = _of_degree(1, quantities)
    square = _of_degree(2, quantities) if gradient is None else None
    return gradient if square is None else np.sqrt(np.maximum(square, 0.0))


def _of_degree(degree: int, quantities: Mapping[str, Floats]) -> Floats | None:
    """The first quantity at all values of the layer that is proportional to this power of the cotangent; of
    higher powers, only those of the gradient itself.
    """
    rows = ((QUANTITIES[name], array) for name, array in quantities.items() if name in QUANTITIES)
    shape = quantities["activation"].shape
    return next(
        (
            array
            for row, array in rows
            if row.degree == degree
            and array.shape == shape
            and (degree == 1 or row.sources == {"gradient"})
        ),
        None,
    )


@dataclass(frozen=True)
class Magnitudes:
    """For one layer and image: sum |A g|, the largest |A|, and the largest cell of sum_k |A_k| mean |g_k|."""

    effect: float
    value: float
    terms: float


def magnitudes(quantities: Mapping[str, Floats], saliency: Saliency) -> Magnitudes:
    """The magnitudes to compare a map with. If a cheaper upper bound of `terms` is enough, it is returned."""
    activation = np.abs(quantities["activation"])
    gradient = np.abs(np.asarray(first_order(quantities)))
    effect = float(np.einsum("nkhw,nkhw->", activation, gradient))
    value, mean = float(np.max(activation)), np.mean(gradient, axis=CELLS)
    terms = value * float(np.sum(mean))
    if np.max(np.abs(saliency)) <= SMALL * terms:
        terms = float(np.max(np.einsum("nkhw,nk->nhw", activation, mean)))
    return Magnitudes(effect, value, terms)


def is_below_rounding(sizes: Magnitudes, score: float, epsilon: float) -> bool:
    """Whether the sum of a layer's values times their gradients is less than the rounding errors of a score of
    this magnitude at this machine epsilon.
    """
    return sizes.effect <= UNSURE * epsilon * score


def is_small(sizes: Magnitudes, saliency: Saliency, score: float) -> bool:
    """Whether a map may be only rounding errors: the layer has a small effect, or its terms nearly cancel."""
    small = sizes.effect <= SMALL * max(score, sizes.value)
    return bool(small or np.max(np.abs(saliency)) <= SMALL * sizes.terms)


def is_same_in_all_samples(
    quantities: Mapping[str, Floats], saliency: Saliency, epsilon: float
) -> bool:
    """Whether a variance over the samples, with its channels added up, is only rounding errors of gradients
    that are the same.
    """
    square = _of_degree(2, quantities)
    largest = (SPREAD * epsilon) ** 2 * float(np.sum(square)) if square is not None else 0.0
    return float(np.sum(np.abs(saliency))) <= largest


def are_nearly_equal(arrays: Sequence[Floats]) -> bool:
    """Whether repeated computations of the same value agree, and are not all 0."""
    size = max(_norm(array) for array in arrays)
    return size > 0 and all(_norm(array - arrays[0]) <= TOLERANCE * size for array in arrays[1:])


def _norm(array: Floats) -> float:
    """The Euclidean norm, scaled so that squares of 1e-200 do not vanish."""
    largest = float(np.max(np.abs(array)))
    return largest * float(np.linalg.norm(array / largest)) if largest > 0 else 0.0
