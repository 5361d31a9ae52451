"""Noise."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from onnxcam.arrays import Floats, Images

KEPT = 16 << 20  # bytes of deviates kept for the pictures to come; beyond it they are drawn anew


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
