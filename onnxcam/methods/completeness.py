"""How far attributions are from adding up to a difference of scores: a fact that methods report."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from onnxcam.arrays import Floats

GAP = "_gap"  # ends the names of facts that are 0 where the parts of a score add up to it
LARGEST_GAP = 0.05  # without a notice
NEAR = 0.01  # of the larger score: a smaller difference of scores is replaced by this
TINY = np.finfo(np.float64).tiny


def completeness(attributions: Floats, score: Floats, baseline_score: Floats) -> dict[str, Floats]:
    """The score of the baseline, and the completeness gap: |sum of the attributions - (S(x) - S(b))| / |S(x) -
    S(b)|, each (N,).

    Where the two scores S differ by less than a hundredth of the larger one, that hundredth is the
    denominator, so that the gap does not explode where nearly nothing is to be explained.
    """
    difference = score - baseline_score
    total = np.sum(attributions, axis=tuple(range(1, attributions.ndim)))
    larger = np.maximum(np.abs(score), np.abs(baseline_score))
    scale = np.maximum(np.maximum(np.abs(difference), NEAR * larger), TINY)
    return {
        "baseline_score": baseline_score,
        "completeness_gap": np.abs(total - difference) / scale,
    }


def gap_to_score(attributions: Floats, score: Floats) -> dict[str, Floats]:
    """The completeness gap of attributions that should add up to the score itself."""
    facts = completeness(attributions, score, np.zeros_like(score))
    return {"completeness_gap": facts["completeness_gap"]}


def gap_notice(facts: Mapping[str, float], remedy: str) -> str | None:
    """What to know and to do about the largest gap among the facts of an image; None if it is small."""
    gaps = {name: number for name, number in facts.items() if name.endswith(GAP)}
    name = max(gaps, key=lambda name: gaps[name], default="")
    if not name or gaps[name] <= LARGEST_GAP:
        return None
    return (
        f"the parts of the score do not add up to it ({name} is {gaps[name]:.2g}, expected at most "
        f"{LARGEST_GAP}); {remedy or 'compare the map with that of another method'}"
    )
