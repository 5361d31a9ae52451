"""Points of a straight line from a baseline to the image, and their weights for an integral."""

from __future__ import annotations

from typing import Annotated

import numpy as np

from onnxcam.arrays import Floats
from onnxcam.methods.baselines import Baseline, read_baseline
from onnxcam.methods.samplers.sampler import CleanRun, Repeated, Samples, sampler
from onnxcam.methods.settings import Range

MAX_STEPS = 1000  # the time to compute the points grows with the third power


def gauss_legendre(steps: int) -> tuple[Floats, Floats]:
    """The points and weights of the Gauss-Legendre quadrature on [0, 1]; the weights add up to 1."""
    points, weights = np.polynomial.legendre.leggauss(steps)
    return (points + 1) / 2, weights / 2


@sampler("path", varies="image", counts="steps", named=("baseline", "baseline_score"))
def path(
    clean: CleanRun,
    *,
    steps: Annotated[int, "points of the path from the baseline", Range(1, MAX_STEPS)] = 50,
    baseline: Baseline = 0.0,
) -> Samples:
    """the model at points of the straight line from a baseline to the image.

    A mean over these samples is the integral over the path by the Gauss-Legendre quadrature.
    """
    start = read_baseline(clean, baseline)
    points, weights = clean.recall(("path", steps), lambda: gauss_legendre(steps))
    offset = Repeated((start - clean.image).astype(np.float32))
    named = {"baseline": clean.channels_first(start)}
    if not clean.is_written:
        named["baseline_score"] = clean.scores(Samples(1, offset))
    return Samples(steps, offset, scales=1 - points, weights=steps * weights, named=named)
