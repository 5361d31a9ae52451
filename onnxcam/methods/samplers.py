"""Noise, and what is kept of the gradients that it gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from onnxcam.arrays import Floats, Images, Maps

KEPT = 32 << 20  # bytes of deviates kept for the pictures to come; beyond it they are drawn anew


@dataclass
class Deviates:
    """Standard normal deviates, one array of `shape` a sample, the same for every picture, device and
    chunk size: each sample has a stream of its own, made from the seed and its number.
    """

    seed: int
    shape: tuple[int, ...]
    _kept: dict[int, Floats] = field(default_factory=dict)

    def __getitem__(self, samples: slice) -> Floats:
        """float32 (samples, *shape)."""
        return np.stack([self._one(i) for i in range(samples.start, samples.stop)])

    def _one(self, sample: int) -> Floats:
        if sample in self._kept:
            return self._kept[sample]
        stream = np.random.Generator(np.random.SFC64([self.seed, sample]))
        drawn = stream.standard_normal(self.shape, dtype=np.float32)
        if (len(self._kept) + 1) * drawn.nbytes <= KEPT:
            self._kept[sample] = drawn
        return drawn


def standard_deviation(image: Images, noise: float, sigma: float | None) -> float:
    """Of the noise on one picture, in the tensor's units: `noise` times its range, unless given."""
    return noise * (float(image.max()) - float(image.min())) if sigma is None else float(sigma)


@dataclass
class Moments:
    """The running sums of g, g^2 and g^3 over samples, in float64: memory does not grow with them.

    A sample of score S_s may weigh exp(S_s), which scales its gradient; the largest score so far is taken
    out of the exponent, and the sums are rescaled when it rises.
    """

    exponential: bool = False
    samples: int = 0
    _sums: list[Floats | float] = field(default_factory=lambda: [0.0, 0.0, 0.0])
    _highest: float = -np.inf

    def add(self, gradients: Maps, scores: Floats) -> None:
        """Take in samples: gradients (n, ...) and scores (n,)."""
        g = np.asarray(gradients, np.float64)
        if self.exponential:
            g = g * self._weights(scores).reshape(-1, *[1] * (g.ndim - 1))
        powers = (g, g * g, g * g * g)
        self._sums = [
            total + np.sum(each, axis=0) for total, each in zip(self._sums, powers, strict=True)
        ]
        self.samples += len(g)

    def _weights(self, scores: Floats) -> Floats:
        scores = np.asarray(scores, np.float64)
        highest = max(self._highest, float(scores.max()))
        fall = np.exp(self._highest - highest)
        self._sums = [total * fall**p for p, total in enumerate(self._sums, start=1)]
        self._highest = highest
        return np.exp(scores - highest)

    def means(self) -> Sequence[Floats]:
        """D_1, D_2, D_3."""
        return [np.asarray(total) / self.samples for total in self._sums]
