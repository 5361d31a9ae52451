"""Copies of the image of which only some segments are shown."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from onnxcam.arrays import Floats
from onnxcam.methods.samplers.masks import hide
from onnxcam.methods.samplers.sampler import CleanRun, Samples, Tabulated, sampler
from onnxcam.methods.samplers.segments import (
    MISSING,
    Segmentation,
    find_segments,
    mean_colors,
)
from onnxcam.methods.settings import Range

CHOICE = "or choose the grid (segments=grid)"


def draw_subsets(samples: int, segments: int, seed: int) -> NDArray[np.bool_]:
    """(samples, segments): which are shown: all of them in the first sample, half of them on average in others.
    The first subsets are the same for every number of samples.
    """
    shown = np.random.Generator(np.random.SFC64(seed)).random((samples, segments)) < 0.5
    shown[0] = True
    return shown


def ridge_projection(shown: NDArray[np.bool_], kernel_width: float, ridge: float) -> Floats:
    """(segments, samples): what turns the scores of subsets into the coefficients of a ridge regression with an
    intercept, for weights exp(-D^2 / kernel_width^2) of the samples; D is the cosine distance of a subset from
    the complete image, 1 - sqrt(shown part).
    """
    distances = 1 - np.sqrt(shown.mean(axis=1))
    weights = np.exp(-np.square(distances / kernel_width))
    centered = shown - weights @ shown / weights.sum()
    weighted = centered.T * weights
    return np.linalg.solve(weighted @ centered + ridge * np.eye(shown.shape[1]), weighted)


@sampler(
    "subsets",
    varies="image",
    counts="samples",
    named=("projection", "segment_numbers"),
    not_embeddable="its segments are looked for in the image",
)
def subsets(
    clean: CleanRun,
    *,
    samples: Annotated[int, "number N of random subsets", Range(1, 100_000)] = 1000,
    segments: Annotated[
        Segmentation, "superpixels of similar color (needs scikit-image), or the cells of a grid"
    ] = "slic",
    superpixels: Annotated[int, "about how many segments the image has", Range(1, 10_000)] = 50,
    kernel_width: Annotated[
        float, "sigma of a subset's weight exp(-D^2 / sigma^2), D its distance", Range(1e-3, 1e3)
    ] = 0.25,
    ridge: Annotated[float, "penalty of the squared coefficients", Range(1e-6, 1e6)] = 1.0,
    seed: Annotated[
        int, "seed of the subsets; the same seed gives the same map", Range(0, 2**63 - 1)
    ] = 0,
) -> Samples:
    """the model on copies of the image of which random segments are replaced by their mean color.

    The formula may take `segment_numbers` (N, H, W), and `projection` (N, segments, samples), which turns the
    numbers of the samples into those of a linear model's segments.
    """
    labels, notices = find_segments(clean, segments, superpixels)
    shown = draw_subsets(samples, int(labels.max()) + 1, seed)

    def draw_masks(subsets: NDArray[np.bool_]) -> Floats:
        return subsets.astype(np.float32)[:, labels]

    return Samples(
        samples,
        hide(clean, mean_colors(clean, labels), Tabulated(draw_masks, (shown,))),
        named={
            "projection": ridge_projection(shown, kernel_width, ridge)[None],
            "segment_numbers": labels[None].astype(np.float64),
        },
        notices=tuple(f"{notice}; {CHOICE}" if notice == MISSING else notice for notice in notices),
    )
