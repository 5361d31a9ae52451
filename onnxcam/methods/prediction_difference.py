"""Prediction difference analysis: how the odds of the target change if a window of the image is unknown."""

from __future__ import annotations

import math
from typing import Annotated

import numpy as np

from onnxcam.arrays import Floats, Maps, Saliency
from onnxcam.methods.method import method
from onnxcam.methods.occlusion import mean_over_windows
from onnxcam.methods.settings import Range

ROUNDING = 1e-3  # of probabilities, in half precision


def between_0_and_1(probability: Floats, is_contrast: Floats) -> Floats:
    """A probability is kept; a difference p of two becomes (1 + p) / 2: what belongs to neither of the classes
    counts half for each of them.
    """
    return (probability + is_contrast) / (1.0 + is_contrast)


def log_odds(probability: Floats, instances: float, class_count: Floats) -> Floats:
    """log2 of p / (1 - p), with Laplace's correction (p N + 1) / (N + K) of p."""
    clipped = np.clip(probability, 0.0, 1.0)
    others = np.maximum(class_count, 2.0) - 1.0  # a single score has two sides
    odds = (clipped * instances + 1.0) / ((1.0 - clipped) * instances + others)
    return np.log(odds) / math.log(2.0)


def why_no_odds(
    probability: Floats, sample_probabilities: Floats, is_contrast: Floats, *, is_constant: bool
) -> str | None:
    """Scores that are no probabilities have no odds."""
    del is_constant
    numbers = np.concatenate([np.expand_dims(probability, 1), sample_probabilities], axis=1)
    values = between_0_and_1(numbers, is_contrast)
    low, high = np.min(values), np.max(values)
    if not (low < -ROUNDING or high > 1 + ROUNDING):
        return None
    return (
        f"the scores are no probabilities ({low:.3g} to {high:.3g}), so they have no odds; use occlusion, or "
        "name the tensor with the probabilities (--output)"
    )


@method(
    "prediction-difference",
    source="Zintgraf et al. 2017, eq. 1, 3 and 4",
    sampler="redraws",
    at="image",
    signed=True,
    check=why_no_odds,
)
def prediction_difference(
    probability: Floats,
    sample_probabilities: Floats,
    window_rows: Maps,
    window_columns: Maps,
    class_count: Floats,
    is_contrast: Floats,
    *,
    instances: Annotated[
        float, "number N of training images, for the correction of probabilities", Range(1, 1e12)
    ] = 1e6,
) -> Saliency:
    """The target's loss of log2 odds if a window of the image is unknown, without a gradient.

    The mean of log2 odds(c | x) - log2 odds(c | x without the window) over the windows that contain a pixel
    (N, H, W). Without the window, the probability is the mean over draws of it that fit to what is around it.
    """
    windows = window_rows.shape[1] * window_columns.shape[1]
    draws = np.reshape(
        sample_probabilities, (-1, windows, sample_probabilities.shape[1] // windows)
    )
    unknown = between_0_and_1(np.mean(draws, axis=2), is_contrast)
    known = between_0_and_1(np.expand_dims(probability, 1), is_contrast)
    losses = log_odds(known, instances, class_count) - log_odds(unknown, instances, class_count)
    return mean_over_windows(losses, window_rows, window_columns)
