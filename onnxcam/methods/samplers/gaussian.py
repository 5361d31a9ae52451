"""Noise."""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from onnxcam.arrays import Floats, Images

CACHE_BYTES = (
    16 << 20
)  # bytes of deviates kept for the pictures to come; beyond it they are drawn anew


@dataclass
class GaussianNoise:
    """Standard normal deviates, one array of `shape` a sample, the same for every picture, device and
    chunk size: each sample has a stream of its own, made from the seed and its number. Parts that are kept
    are handed out as `place` makes them of the array, once.
    """

    seed: int
    shape: tuple[int, ...]
    place: Callable[[Floats], Any] = np.asarray
    _kept: Floats = field(init=False)
    _drawn: set[int] = field(default_factory=set, init=False)
    _placed: dict[int, tuple[int, Any]] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        size = 4 * math.prod(self.shape)
        try:
            self._kept = np.empty((CACHE_BYTES // size, *self.shape), np.float32)
        except MemoryError:  # then none are kept
            self._kept = np.empty((0, *self.shape), np.float32)

    def __getitem__(self, samples: slice) -> Any:
        """float32 (samples, *shape), not to be written to."""
        if samples.stop > len(self._kept):
            return self._of(samples)
        stop, placed = self._placed.get(samples.start, (None, None))
        if stop != samples.stop:
            placed = self.place(self._of(samples))
            self._placed[samples.start] = samples.stop, placed
        return placed

    def _of(self, samples: slice) -> Floats:
        """Drawn on all cores, as far as they were not kept."""
        wanted, fits = range(samples.start, samples.stop), samples.stop <= len(self._kept)
        shape = (len(wanted), *self.shape)
        found = self._kept[samples] if fits else np.empty(shape, np.float32)
        missing = [each for each in wanted if not (fits and each in self._drawn)]
        rows = [found[sample - samples.start] for sample in missing]
        if missing:
            try:
                with ThreadPoolExecutor() as pool:
                    list(pool.map(self._draw, missing, rows))
            except RuntimeError:  # the system cannot start a thread
                list(map(self._draw, missing, rows))
        if fits:
            self._drawn.update(missing)
        return np.asarray(found)

    def _draw(self, sample: int, out: Floats) -> None:
        stream = np.random.Generator(np.random.SFC64([self.seed, sample]))
        stream.standard_normal(out=out, dtype=np.float32)


def standard_deviation(image: Images, noise: float, sigma: float | None) -> float:
    """Of the noise on one picture, in the tensor's units: `noise` times its range, unless given."""
    return noise * (float(image.max()) - float(image.min())) if sigma is None else float(sigma)
