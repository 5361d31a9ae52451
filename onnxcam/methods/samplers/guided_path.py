"""A path from a baseline to the image that follows small gradients, and the integral along it."""

from __future__ import annotations

from typing import Annotated

import numpy as np

from onnxcam.arrays import Floats, Maps
from onnxcam.methods.baselines import Baseline, read_baseline
from onnxcam.methods.samplers.sampler import CleanRun, Repeated, Samples, sampler
from onnxcam.methods.settings import Range

CLOSE = 1e-12  # part of the way that may be missing


@sampler(
    "guided-path",
    varies="image",
    counts="steps",
    named=("gradient_step", "baseline_score"),
    asks=("d1",),
    not_embeddable="every point of its path depends on the gradient at the point before",
)
def guided_path(
    clean: CleanRun,
    *,
    steps: Annotated[int, "points of the path from the baseline", Range(1, 100_000)] = 200,
    fraction: Annotated[
        float, "part of all values that is moved at once, smallest gradients first", Range(0, 1)
    ] = 0.25,
    max_distance: Annotated[
        float,
        "how far a value may be ahead of or behind the straight line, as a part of its way; 0 is the line",
        Range(0, 1),
    ] = 0.02,
    baseline: Baseline = 0.0,
) -> Samples:
    """the model at points of a path from a baseline to the image, which depends on the gradients.

    At every point, the values with the smallest gradients move first; the L1 distance to the image shrinks as
    on the straight line. The formula may take `gradient_step` (N, C, H, W), the sum over the path of the
    gradient times the step to the next point.
    """
    layer = clean.layer
    image = layer.channels_first(clean.image, 1.0)
    start = layer.channels_first(read_baseline(clean, baseline), 1.0)
    way = image - start

    def sample_at(shares: Maps) -> Samples:
        """The point where every value has gone this share of its way."""
        offset = np.moveaxis((shares - 1) * way, 1, layer.channel_axis)
        return Samples(1, Repeated(offset.astype(np.float32)))

    lengths, integral = np.abs(way), np.zeros(way.shape)
    shares: Floats = np.zeros(way.shape)
    for step in range(steps):
        gradient = clean.compute(sample_at(shares))["d1"]
        moved = advance(
            shares, lengths, np.abs(gradient), (step + 1) / steps, fraction, max_distance
        )
        integral += gradient * (moved - shares) * way
        shares = moved
    score = clean.scores(sample_at(np.zeros(way.shape)))
    return Samples(steps, named={"gradient_step": integral, "baseline_score": score})


def advance(
    shares: Floats,
    lengths: Floats,
    gradient: Floats,
    goal: float,
    fraction: float,
    max_distance: float,
) -> Floats:
    """The share of its way that every value has gone after a step, at the end of which the share of the sum of
    the `lengths` is `goal`. None is farther than `max_distance` from the goal; those with the smallest
    magnitudes of the `gradient` move first, this `fraction` of all values at a time.
    """
    low, high = max(goal - max_distance, 0.0), min(goal + max_distance, 1.0)
    moved = np.maximum(shares, low)
    total = float(np.sum(lengths))
    missing = goal * total - float(np.sum(lengths * moved))
    room = lengths * (high - moved)
    order = np.where(room > 0, gradient, np.inf).ravel()
    rank = int(fraction * (order.size - 1))
    while missing > CLOSE * total:
        threshold = np.partition(order, rank)[rank]
        chosen = (order <= threshold) & (order < np.inf)
        available = float(np.dot(room.ravel(), chosen))
        if available <= 0:  # no finite gradient is left
            break
        share = min(1.0, missing / available)
        moved += share * (high - moved) * np.reshape(chosen, moved.shape)
        missing -= share * available
        np.putmask(order, chosen, np.inf)
    return moved
