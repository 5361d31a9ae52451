"""Copies of the image of which random parts are hidden."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated

import numpy as np

from onnxcam.arrays import Floats
from onnxcam.methods.baselines import Baseline, read_baseline
from onnxcam.methods.enlarge import cell_positions, enlarge
from onnxcam.methods.samplers.sampler import CleanRun, Computed, Samples, sampler
from onnxcam.methods.settings import Range

CHUNKS = 8  # chunks of masks that are stored while they are run


@dataclass(frozen=True)
class RandomMasks:
    """Random masks as in Petsiuk et al. 2018, section 3.2: cells of 0 and 1 are enlarged to a little more than
    the image, and a piece of the image's size is cut out at a random position.

    Every mask has its own random stream, seeded by `seed` and its number, so that it is the same for every
    image and chunk.

    Attributes:
        size: height and width in pixels.
        cells: cells along each side.
        probability: that a cell is 1.
    """

    size: tuple[int, int]
    cells: int
    probability: float
    seed: int

    def draw(self, start: int, stop: int) -> Floats:
        """(stop - start, 1, height, width) float32 masks from 0 to 1."""
        masks = np.empty((stop - start, 1, *self.size), np.float32)
        for number, mask in zip(range(start, stop), masks, strict=True):
            stream = np.random.Generator(np.random.SFC64([self.seed, number]))
            cells = (stream.random((self.cells, self.cells)) < self.probability).astype(np.float32)
            down, right = stream.random(2)
            enlarge(cells, self._positions(0, down), self._positions(1, right), mask[0])
        return masks

    def _positions(self, axis: int, shift: float) -> Floats:
        """Where pixels lie in the cells, which are enlarged to one cell more than the image and cut out at a
        part `shift` of the first one, from 0 to 1.
        """
        pixels = -(-self.size[axis] // self.cells)  # of a cell
        start, length = float(np.floor(shift * pixels)), (self.cells + 1) * pixels
        return cell_positions(self.size[axis], self.cells, start, length)


def hide(clean: CleanRun, replacement: Floats) -> Callable[[Floats], Floats]:
    """A function from masks (n, H, W) to the offsets that leave x * mask + replacement * (1 - mask)."""
    change = (clean.image - replacement).astype(np.float32)
    return lambda masks: np.asarray(change * (clean.mix(masks) - 1))


@sampler("masks", varies="image", counts="masks", named=("inverse_probability",))
def random_masks(
    clean: CleanRun,
    *,
    masks: Annotated[int, "number N of random masks", Range(1, 1_000_000)] = 4000,
    grid: Annotated[int, "cells of a mask along each side", Range(1, 256)] = 7,
    probability: Annotated[float, "how probable it is that a cell is kept", Range(0.01, 1)] = 0.5,
    seed: Annotated[
        int, "seed of the masks; the same seed gives the same map", Range(0, 2**63 - 1)
    ] = 0,
    baseline: Baseline = 0.0,
) -> Samples:
    """the model on copies of the image of which random parts are replaced by a baseline.

    Feeds each `mask` (n, 1, H, W), from 0 to 1. The formula may take `inverse_probability` (N, 1, 1),
    1 / `probability`.
    """
    drawn = RandomMasks(clean.grid, grid, probability, seed)
    draw = lru_cache(CHUNKS)(drawn.draw)  # both rows of a chunk are made of the same masks
    hidden = hide(clean, read_baseline(clean, baseline))

    def fed(samples: slice) -> Floats:
        return draw(samples.start, samples.stop)

    return Samples(
        masks,
        Computed(lambda samples: hidden(fed(samples)[:, 0])),
        inputs={"mask": Computed(fed)},
        named={"inverse_probability": np.full((1, 1, 1), 1 / probability)},
    )
