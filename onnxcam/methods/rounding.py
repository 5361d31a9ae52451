"""Whether a map is evidence or rounding errors: what is 0 in theory may come out as 1e-11, and maps have no
unit.

Two things can be 0 in theory and not in floats: a gradient (before a normalization and a mean, or of a
probability of 1), and a formula's sum of gradients that are not 0 (the mean of a gradient before a standard
deviation). A small map proves neither, since scores and layers may have any unit. So small maps are computed
again close by: evidence comes out nearly the same, rounding errors do not. Real models rarely have maps as
small as SMALL (the smallest of 45 were 2e-3 for a probability near 1, 1e-2 for logits), so most runs cost no
more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from onnxcam.arrays import Floats, Maps, Saliency

SMALL = 1e-3  # of a layer's values or of the score, or of what a formula's terms would add up to
UNSURE = 4.0  # rounding errors of the score; a layer that changes it by no more has no effect
ALIKE = 0.5  # how much two computations of one thing may differ, as a part of the larger one
CELLS = (2, 3)


def first_order(probed: Mapping[str, Floats]) -> Floats:
    """(N, C, h, w) or (N, C, 1, 1): the gradient of what was probed."""
    if "class_weight" in probed:
        height, width = probed["activation"].shape[2:]
        return np.asarray(probed["class_weight"][:, :, None, None] / (height * width))
    return np.asarray(probed.get("gradient", probed.get("d1")))


def probed_of(names: Sequence[str], activation: Maps, gradient: Maps) -> dict[str, Floats]:
    """The arguments of a formula, by name, from a single gradient."""
    powers = {"gradient": gradient, "d1": gradient, "d2": gradient**2, "d3": gradient**3}
    powers["class_weight"] = np.sum(gradient, axis=CELLS)
    return {name: activation if name == "activation" else powers[name] for name in names}


@dataclass(frozen=True)
class Magnitudes:
    """Of one layer and image: sum |A g|, the largest |A|, and the largest cell of sum_k |A_k| mean |g_k|."""

    effect: float
    value: float
    terms: float


def magnitudes(probed: Mapping[str, Floats], saliency: Saliency) -> Magnitudes:
    """What to compare a map with. `terms` is an upper bound that is cheaper to compute, if that is enough."""
    activation = np.abs(probed["activation"])
    gradient = np.abs(first_order(probed))
    effect = float(np.einsum("nkhw,nkhw->", *np.broadcast_arrays(activation, gradient)))
    value, mean = float(np.max(activation)), np.mean(gradient, axis=CELLS)
    terms = value * float(np.sum(mean))
    if np.max(saliency) <= SMALL * terms:
        terms = float(np.max(np.einsum("nkhw,nk->nhw", activation, mean)))
    return Magnitudes(effect, value, terms)


def is_below_rounding(sizes: Magnitudes, score: float, step: float) -> bool:
    """Whether all values of a layer, times their gradients, are less than rounding errors of a score of this
    magnitude, computed in floats with this machine epsilon.
    """
    return sizes.effect <= UNSURE * step * score


def is_small(sizes: Magnitudes, saliency: Saliency, score: float) -> bool:
    """Whether a map may be only rounding errors: the layer's effect is small, or its terms nearly cancel."""
    small = sizes.effect <= SMALL * max(score, sizes.value)
    return bool(small or np.max(saliency) <= SMALL * sizes.terms)


def are_alike(arrays: Sequence[Floats]) -> bool:
    """Whether computations of the same thing agree, and not all of them are 0."""
    size = max(_norm(array) for array in arrays)
    return size > 0 and all(_norm(array - arrays[0]) <= ALIKE * size for array in arrays[1:])


def _norm(array: Floats) -> float:
    """The Euclidean norm, scaled so that squares of 1e-200 do not vanish."""
    largest = float(np.max(np.abs(array)))
    return largest * float(np.linalg.norm(array / largest)) if largest > 0 else 0.0
