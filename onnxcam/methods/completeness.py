"""How far attributions are from adding up to a difference of scores: a fact that methods report."""

from __future__ import annotations

import numpy as np

from onnxcam.arrays import Floats

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
