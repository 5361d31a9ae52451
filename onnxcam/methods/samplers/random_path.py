"""Random points between baselines and noisy copies of the image."""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated, Any, Literal

import numpy as np

from onnxcam.arrays import Array, Floats
from onnxcam.methods.baselines import Baseline, read_baselines
from onnxcam.methods.samplers.gaussian import (
    GENERATOR,
    TOO_LARGE,
    draw_noise,
    standard_deviation,
)
from onnxcam.methods.samplers.sampler import CleanRun, Computed, Samples, Tabulated, sampler
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


@sampler(
    "random-path",
    varies="image",
    counts="samples",
    named=("baseline_score", "noisy_score"),
    embedded={"generator": "tile"},
    not_embeddable_with={("generator", "normal"): f"{TOO_LARGE}; use generator=tile"},
)
def random_path(
    clean: CleanRun,
    *,
    samples: Annotated[int, "number n of random points", Range(1, 1_000_000)] = 50,
    noise: Annotated[
        float, "standard deviation, as a fraction of the tensor's range", Range(0, 100)
    ] = 0.05,
    seed: Annotated[int, "seed; the same seed gives the same map", Range(0, 2**63 - 1)] = 0,
    generator: Annotated[Literal["normal", "tile"], GENERATOR] = "normal",
    baseline: Baseline = 0.0,
) -> Samples:
    """the model at random points between baselines and noisy copies of the image.

    Sample s is b_s + t_s (x_s - b_s), with x_s = x + noise and b_s one of the baselines at random, and its
    input `step` is x_s - b_s. A baseline may be an array of several images. The formula may take
    `baseline_score` and `noisy_score` (N,), the means of the score over b_s, and over the first fourth of x_s:
    it is only compared with, and a score takes nearly half as long as a gradient.
    """
    starts = read_baselines(clean, baseline)
    count = len(starts) if isinstance(starts, np.ndarray) else 1
    shares, numbers = random_shares(samples, count, seed)
    spread = standard_deviation(clean.image, noise, None)
    is_flat = isinstance(spread, float) and spread == 0
    deviates = None if is_flat else draw_noise(clean, generator, samples, seed)
    if clean.is_written:
        return _in_graph(clean, starts, shares, numbers, spread, deviates)
    # float32 as in a graph, so that the samples are the same bits there: kinks pass on the smallest difference
    wide = np.result_type(clean.image, np.float32)
    image, starts, shares = (array.astype(wide) for array in (clean.image, starts, shares))
    spread, column = wide.type(spread), (-1, *[1] * (image.ndim - 1))

    def noisy(rows: slice) -> Floats:
        return image if deviates is None else image + spread * deviates[rows]

    @lru_cache(CHUNKS)
    def rows(first: int, last: int) -> tuple[Floats, Floats]:
        own, share = starts[numbers[first:last]], shares[first:last].reshape(column)
        steps = noisy(slice(first, last)) - own
        return (own + share * steps - image).astype(np.float32), steps.astype(np.float32)

    ends = Computed(lambda samples: (noisy(samples) - image).astype(np.float32))
    start_scores = clean.scores(Samples(count, (starts - image).astype(np.float32)))
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


def _in_graph(
    clean: CleanRun, starts: Any, shares: Floats, numbers: Array, spread: Any, deviates: Any
) -> Samples:
    """The same samples for a graph, without scores: from the share and the baseline of each, and the tables of
    its noise, if there is some. Of several baselines, each is stored once.
    """
    is_stored = isinstance(starts, np.ndarray)
    images = {"image": clean.image}
    images |= {} if is_stored else {"start": starts}
    images |= {"spread": np.expand_dims(spread, (2, 3))} if deviates else {}

    def ends(number: Any, rows: tuple[Any, ...]) -> tuple[Any, Any, Any]:
        """The image, the baseline, and the noisy copy of the image."""
        first = len(rows) - len(images) - is_stored
        own = dict(zip(images, rows[first:], strict=False))
        image, start = own["image"], own.get("start")
        start = np.take(rows[-1], number, 0) if start is None else start
        return (
            image,
            start,
            image + own["spread"] * deviates.compute(*rows[:first]) if deviates else image,
        )

    def offset(share: Any, number: Any, *rows: Any) -> Any:
        image, start, noisy = ends(number, rows)
        return start + share * (noisy - start) - image

    def step(_: Any, number: Any, *rows: Any) -> Any:
        _, start, noisy = ends(number, rows)
        return noisy - start

    share = np.reshape(shares, (-1, 1, 1, 1)).astype(np.float32)
    tables = (share, numbers.astype(np.int64), *(deviates.tables if deviates else ()))
    shared = (starts.astype(np.float32),) if is_stored else ()
    rows = [
        Tabulated(compute, tables, tuple(images.values()), shared) for compute in (offset, step)
    ]
    return Samples(len(shares), rows[0], inputs={"step": rows[1]})
