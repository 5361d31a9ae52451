"""Random points between baselines and noisy copies of the image."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Annotated

import numpy as np

from onnxcam.arrays import Array, Floats
from onnxcam.methods.baselines import Baseline, read_baselines
from onnxcam.methods.samplers.gaussian import GaussianNoise, standard_deviation
from onnxcam.methods.samplers.sampler import CleanRun, Computed, Rows, Samples, sampler
from onnxcam.methods.settings import Range

CHUNKS = 4  # of samples that are stored, because their offsets and steps are computed together
SCORED = 4  # samples for every one whose noisy copy is scored


def random_shares(samples: int, baselines: int, seed: int) -> tuple[Floats, Array]:
    """For every sample its share t of the way from its baseline, and the number of that baseline.

    Every n-th part of [0, 1] has one t, which is uniform there: each t is uniform on [0, 1], and the mean over
    them is much closer to the integral than that of independent ones.
    """
    stream = np.random.Generator(np.random.SFC64([seed, samples, baselines]))
    shares = (np.arange(samples) + stream.random(samples)) / samples
    return shares, stream.integers(baselines, size=samples)


@sampler("random-path", varies="image", counts="samples", named=("baseline_score", "noisy_score"))
def random_path(
    clean: CleanRun,
    *,
    samples: Annotated[int, "number n of random points", Range(1, 1_000_000)] = 50,
    noise: Annotated[
        float, "standard deviation, as a fraction of the tensor's range", Range(0, 100)
    ] = 0.05,
    seed: Annotated[int, "seed; the same seed gives the same map", Range(0, 2**63 - 1)] = 0,
    baseline: Baseline = 0.0,
) -> Samples:
    """the model at random points between baselines and noisy copies of the image.

    Sample s is b_s + t_s (x_s - b_s), with x_s = x + noise and b_s one of the baselines at random, and its
    input `step` is x_s - b_s. A baseline may be an array of several images. The formula may take
    `baseline_score` and `noisy_score` (N,), the means of the score over b_s, and over the first fourth of x_s:
    it is only compared with, and a score takes nearly half as long as a gradient.
    """
    starts = read_baselines(clean, baseline)
    shares, numbers = random_shares(samples, len(starts), seed)
    column = (-1, *[1] * (clean.image.ndim - 1))
    noisy = noisy_copies(clean, noise, seed)

    @lru_cache(CHUNKS)
    def rows(first: int, last: int) -> tuple[Floats, Floats]:
        own, share = starts[numbers[first:last]], shares[first:last].reshape(column)
        steps = noisy(slice(first, last)) - own
        return (own + share * steps - clean.image).astype(np.float32), steps.astype(np.float32)

    ends = Computed(lambda samples: (noisy(samples) - clean.image).astype(np.float32))
    start_scores = clean.scores(Samples(len(starts), (starts - clean.image).astype(np.float32)))
    end_scores = clean.scores(Samples(-(-samples // SCORED), ends) if noise else Samples(1))
    return Samples(
        samples,
        Computed(lambda samples: rows(samples.start, samples.stop)[0]),
        inputs={"step": Computed(lambda samples: rows(samples.start, samples.stop)[1])},
        named={
            "baseline_score": np.mean(start_scores[numbers], keepdims=True),
            "noisy_score": np.mean(end_scores, keepdims=True),
        },
    )


def noisy_copies(clean: CleanRun, noise: float, seed: int) -> Callable[[slice], Floats]:
    """The function from a slice of samples to copies of the image with Gaussian noise, in float64."""
    image, shape = clean.image.astype(np.float64), clean.image.shape[1:]
    spread = standard_deviation(clean.image, noise, None)
    if spread == 0:
        return lambda _: image
    deviates: Rows = clean.recall(("random-path", seed, shape), lambda: GaussianNoise(seed, shape))
    return lambda samples: image + spread * deviates[samples]
