"""Copies of the image of which random parts are hidden."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from onnxcam.arrays import Array, Floats
from onnxcam.methods.baselines import Baseline, read_baseline
from onnxcam.methods.enlarge import cell_positions, enlarge
from onnxcam.methods.samplers.sampler import (
    CleanRun,
    Computed,
    Rows,
    Samples,
    Tabulated,
    sampler,
)
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
            cells, starts = self.draw_cells(number)
            rows, columns = (self._positions(axis, starts[axis]) for axis in (0, 1))
            enlarge(cells.astype(np.float32), rows, columns, mask[0])
        return masks

    def draw_cells(self, number: int) -> tuple[NDArray[np.uint8], Floats]:
        """The cells of a mask, and the first row and column (2,) of the pixels that are cut out."""
        stream = np.random.Generator(np.random.SFC64([self.seed, number]))
        cells = stream.random((self.cells, self.cells)) < self.probability
        pixels = [self._pixels(axis) for axis in (0, 1)]
        return cells.astype(np.uint8), np.floor(stream.random(2) * pixels).astype(np.float32)

    def tables(self, masks: int) -> tuple[Array, Array]:
        """The cells (masks, cells, cells) and the starts (masks, 2) of so many masks."""
        cells, starts = zip(*map(self.draw_cells, range(masks)), strict=True)
        return np.stack(cells), np.stack(starts)

    def enlarge(self, cells: Any, starts: Any) -> Any:
        """(n, height, width) float32: the same masks from rows of `tables`, with the same bits, in a form that
        can be written into a graph.
        """
        rows, columns = starts[:, :1], starts[:, 1:]
        wide = self._interpolate(1, columns, np.swapaxes(cells.astype(np.float32), 1, 2))
        return self._interpolate(0, rows, np.swapaxes(wide, 1, 2))

    def _interpolate(self, axis: int, starts: Any, cells: Any) -> Any:
        """Cells (n, cells, m) as (n, pixels, m). Positions are fractions of whole numbers, which float32 holds
        exactly, and cells are picked by products with 0 and 1.
        """
        length = 2 * (self.cells + 1) * self._pixels(axis)  # twice that of all cells, in pixels
        centers = 2 * (np.arange(self.size[axis], dtype=np.float32) + starts) + 1
        ends = 0, (self.cells - 1) * length
        positions = np.clip(centers * self.cells - length // 2, *ends)
        lower = np.floor(positions / length)
        share = np.expand_dims((positions - lower * length) / length, 2)
        low, high = (
            self._pick(numbers) @ cells
            for numbers in (lower, np.minimum(lower + 1, self.cells - 1))
        )
        return low + (high - low) * share

    def _pick(self, numbers: Any) -> Any:
        """(n, pixels, cells): 1 at the cell of each pixel, else 0."""
        is_cell = np.expand_dims(numbers, 2) == np.arange(self.cells, dtype=np.float32)
        return is_cell.astype(np.float32)

    def _positions(self, axis: int, start: Any) -> Floats:
        """Where pixels lie in the cells, which are enlarged to one cell more than the image, and of which so
        many pixels are cut off.
        """
        length = (self.cells + 1) * self._pixels(axis)
        return cell_positions(self.size[axis], self.cells, start, length)

    def _pixels(self, axis: int) -> int:
        """The pixels of a cell along an axis."""
        return -(-self.size[axis] // self.cells)


def hide(clean: CleanRun, replacement: Floats, masks: Computed | Tabulated) -> Rows:
    """The offsets that leave x * mask + replacement * (1 - mask), for rows of masks (n, H, W)."""
    change = (clean.image - replacement).astype(np.float32)

    def hidden(mask: Any, change: Any) -> Any:
        return change * (clean.mix(mask) - 1)

    if isinstance(masks, Computed):
        return Computed(lambda samples: hidden(masks[samples], change))
    return Tabulated(
        lambda *rows: hidden(masks.compute(*rows[:-1]), rows[-1]), masks.tables, (change,)
    )


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
    shown, fed = _in_graph(drawn, masks) if clean.is_written else _when_run(drawn)
    return Samples(
        masks,
        hide(clean, read_baseline(clean, baseline), shown),
        inputs={"mask": fed},
        named={"inverse_probability": np.full((1, 1, 1), 1 / probability)},
    )


def _when_run(drawn: RandomMasks) -> tuple[Computed, Computed]:
    """Rows of masks (n, height, width), and the same (n, 1, height, width)."""
    draw = lru_cache(CHUNKS)(drawn.draw)  # both rows of a chunk are made of the same masks
    fed = Computed(lambda samples: draw(samples.start, samples.stop))
    return Computed(lambda samples: fed[samples][:, 0]), fed


def _in_graph(drawn: RandomMasks, masks: int) -> tuple[Tabulated, Tabulated]:
    """The same from tables."""
    tables = drawn.tables(masks)
    fed = Tabulated(lambda *rows: np.expand_dims(drawn.enlarge(*rows), 1), tables)
    return Tabulated(drawn.enlarge, tables), fed
