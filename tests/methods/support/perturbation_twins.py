"""The papers on perturbation, in float64, one window, one draw, or one subset at a time.

A twin takes a model as functions, one image x (C, H, W) and a class, and returns the map (H, W).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np

from onnxcam.arrays import Floats
from onnxcam.methods.samplers.segments import Labels
from tests.methods.support.twins import probability
from tests.support.nets import Net


class Model(Protocol):
    """A classifier."""

    def logits(self, x: Floats) -> Floats: ...


class OfNet:
    """A net as a model of one image."""

    def __init__(self, net: Net) -> None:
        self.net = net

    def logits(self, x: Floats) -> Floats:
        logits: Floats = self.net.logits(self.net.features(x[None]))[0]
        return logits


Window = tuple[int, int]  # its first row and column


def windows(height: int, width: int, side: int, stride: int) -> Iterator[Window]:
    """From the upper left corner on; where the last step would leave the image, it ends at the border."""
    for top in _starts(height, side, stride):
        for left in _starts(width, side, stride):
            yield top, left


def _starts(length: int, side: int, stride: int) -> list[int]:
    starts, position = [], 0
    while position + side < length:
        starts.append(position)
        position += stride
    return [*starts, length - side]


def mean_of_windows(values: dict[Window, float], side: int, height: int, width: int) -> Floats:
    """The mean of the values of the windows around each pixel."""
    saliency = np.zeros((height, width))
    for i, j in np.ndindex(height, width):
        around = [
            value
            for (top, left), value in values.items()
            if top <= i < top + side and left <= j < left + side
        ]
        saliency[i, j] = sum(around) / len(around)
    return saliency


def occlusion(
    model: Model, x: Floats, target: int, side: int, stride: int, fill: Floats | float = 0.0
) -> Floats:
    """Zeiler and Fergus 2014: the class's loss of probability, for a square at each place."""
    _, height, width = x.shape
    before = probability(model.logits(x), target)
    losses = {}
    for top, left in windows(height, width, side, stride):
        covered = x.astype(np.float64)
        square = covered[:, top : top + side, left : left + side]
        square[:] = np.broadcast_to(fill, x.shape)[:, top : top + side, left : left + side]
        losses[top, left] = before - probability(model.logits(covered), target)
    return mean_of_windows(losses, side, height, width)


def lime(
    model: Model,
    x: Floats,
    target: int,
    labels: Labels,
    subsets: Sequence[Sequence[bool]],
    sigma: float = 0.25,
    ridge: float = 1.0,
) -> Floats:
    """Ribeiro et al. 2016, eq. 1, with a weighted ridge regression: the coefficients of the segments, whose
    numbers are `labels` (H, W), of the linear model that is nearest to the probabilities for the subsets. A
    segment that is not shown has its mean color.
    """
    count = int(labels.max()) + 1
    normal, right = np.zeros((count + 1, count + 1)), np.zeros(count + 1)
    for subset in subsets:
        row = np.array([1.0, *map(float, subset)])  # with the intercept
        length = np.sqrt(row[1:].sum())
        cosine = row[1:].sum() / (length * np.sqrt(count)) if length else 0.0
        weight = np.exp(-((1 - cosine) ** 2) / sigma**2)
        score = probability(model.logits(show_segments(x, labels, subset)), target)
        normal += weight * np.outer(row, row)
        right += weight * score * row
    for segment in range(1, count + 1):
        normal[segment, segment] += ridge  # the intercept is not penalized
    coefficients = np.linalg.solve(normal, right)[1:]
    return np.array([[coefficients[int(label)] for label in row] for row in labels])


def show_segments(x: Floats, labels: Labels, subset: Sequence[bool]) -> Floats:
    """The image with the mean color of every segment that is not in the subset."""
    shown = x.astype(np.float64)
    for segment, is_shown in enumerate(subset):
        pixels = [(i, j) for i, j in np.ndindex(labels.shape) if labels[i, j] == segment]
        for channel in range(len(x)):
            mean = sum(float(x[channel, i, j]) for i, j in pixels) / len(pixels)
            for i, j in pixels:
                shown[channel, i, j] = x[channel, i, j] if is_shown else mean
    return shown


def prediction_difference(
    model: Model,
    x: Floats,
    target: int,
    side: int,
    stride: int,
    draws: Mapping[Window, Sequence[Floats]],
    instances: float = 1e6,
) -> Floats:
    """Zintgraf et al. 2017, eq. 1 and 3, for `draws` (C, h, w) of each window: what the class loses of its log2
    odds. Probabilities p are (p N + 1) / (N + K) for N training images and K classes.
    """
    _, height, width = x.shape
    classes = len(model.logits(x))

    def log_odds(p: float) -> float:
        corrected = (p * instances + 1) / (instances + classes)
        return float(np.log2(corrected / (1 - corrected)))

    losses = {}
    for top, left in windows(height, width, side, stride):
        total = 0.0
        for values in draws[top, left]:
            unknown = x.astype(np.float64)
            unknown[:, top : top + side, left : left + side] = values
            total += probability(model.logits(unknown), target)
        mean = total / len(draws[top, left])
        before = probability(model.logits(x), target)
        losses[top, left] = log_odds(before) - log_odds(mean)
    return mean_of_windows(losses, side, height, width)


def conditional_gaussian(
    patches: Floats, hidden: Sequence[bool], rest: Floats, ridge: float
) -> tuple[Floats, Floats]:
    """The mean and the covariance of the hidden values of a patch given the rest, for the normal distribution
    fitted on patches (P, d); eq. 4.
    """
    count, size = patches.shape
    mean = patches.mean(axis=0)
    covariance = ridge * np.eye(size)
    for patch in patches:
        covariance += np.outer(patch - mean, patch - mean) / count
    inside = [n for n in range(size) if hidden[n]]
    outside = [n for n in range(size) if not hidden[n]]
    precision = np.linalg.inv(covariance[np.ix_(outside, outside)])
    gain = covariance[np.ix_(inside, outside)] @ precision
    of_hidden = covariance[np.ix_(inside, inside)] - gain @ covariance[np.ix_(outside, inside)]
    return mean[inside] + gain @ (rest - mean[outside]), of_hidden
