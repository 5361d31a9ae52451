"""GridSample as a sum over cells: y = sum of weight times cell, with the slopes of the weights.

Cells outside are zero, the border, or a mirror image; each cell is handled by itself, so slopes beyond the
border are also correct.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from onnxcam.autodiff.lowering.cubic import (
    KEYS_A,
    cubic_far,
    cubic_far_slope,
    cubic_near,
    cubic_near_slope,
)
from onnxcam.graph import anp
from onnxcam.graph.slicing import dim_size, full_like
from onnxcam.graph.tracing import Value

OFFSETS = {"nearest": (0,), "linear": (0, 1), "cubic": (-1, 0, 1, 2)}


@dataclass(frozen=True)
class Tap:
    """One cell of an axis for each of P positions: its index, its weight and the weight's slope, (N, 1, P)."""

    index: Value
    weight: Value
    slope: Value


@dataclass(frozen=True)
class Sampling:
    """The cells and weights by which x (N, C, *sizes) is sampled at positions, the grid (N, *out, rank)."""

    x: Value
    grid: Value
    mode: str
    padding: str
    align_corners: bool

    @property
    def rank(self) -> int:
        """The number of spatial axes."""
        return self.x.ndim - 2

    def cells_per_unit(self, axis: int) -> Value:
        """Cells per unit of the grid, which is -1 at one end of the axis and 1 at the other."""
        size = self._size(axis)
        return (size - 1.0 if self.align_corners else size) * 0.5

    def corners(self) -> Iterator[tuple[Value, tuple[Tap, ...]]]:
        """Every cell with a weight: its index in the flattened spatial axes (N, 1, P), and a tap per axis."""
        axes = [self._taps(axis) for axis in range(self.rank)]
        for taps in itertools.product(*axes):
            index = taps[0].index
            for axis, tap in enumerate(taps[1:], start=3):
                index = index * dim_size(self.x, axis) + tap.index
            yield index, taps

    def _size(self, axis: int) -> Value:
        """The size of a spatial axis as a float (1,)."""
        return dim_size(self.x, axis + 2).astype(self.grid.dtype)

    def _positions(self, axis: int) -> Value:
        """The positions along a spatial axis in cells (N, 1, P); the grid has the last axis first."""
        flat = anp.swapaxes(anp.reshape(self.grid, [0, -1, self.rank]), 1, 2)
        column = self.grid.build.constant(np.array([self.rank - 1 - axis]))
        coordinate = self.grid.build.op("Gather", flat, column, axis=1)
        center = (self._size(axis) - 1.0) * 0.5
        return coordinate * self.cells_per_unit(axis) + center

    def _taps(self, axis: int) -> list[Tap]:
        """The cells of an axis that have a weight at each position."""
        positions = self._positions(axis)
        if self.mode == "nearest":
            cell = positions.build.op("Round", positions)  # halves to even, as in torch
            return [self._tap(axis, cell, full_like(cell, 1.0), full_like(cell, 0.0))]
        base = anp.floor(positions)
        fraction = positions - base
        return [
            self._tap(axis, base + float(offset), *self._kernel(fraction, offset))
            for offset in OFFSETS[self.mode]
        ]

    def _kernel(self, fraction: Value, offset: int) -> tuple[Value, Value]:
        """The weight, and its slope, of the cell at `offset` from the cell before a position."""
        sign = 1.0 if offset < 1 else -1.0  # of the slope of the distance
        d = fraction - float(offset) if offset < 1 else float(offset) - fraction
        if self.mode == "linear":
            return 1.0 - d, full_like(d, -sign)
        if offset in (0, 1):
            return cubic_near(d, KEYS_A), cubic_near_slope(d, KEYS_A) * sign
        return cubic_far(d, KEYS_A), cubic_far_slope(d, KEYS_A) * sign

    def _tap(self, axis: int, cell: Value, weight: Value, slope: Value) -> Tap:
        last = self._size(axis) - 1.0
        index = anp.minimum(anp.maximum(self._reflect(axis, cell), full_like(last, 0.0)), last)
        if self.padding == "zeros":
            is_inside = anp.equal(index, cell).astype(weight.dtype)
            weight, slope = weight * is_inside, slope * is_inside
        return Tap(index.astype(np.dtype(np.int64)), weight, slope)

    def _reflect(self, axis: int, cell: Value) -> Value:
        """For padding by reflection the cell that mirrors at both borders show; otherwise the cell.

        The mirrors are at the centers of the outermost cells with align_corners, at their outer edges without.
        """
        if self.padding != "reflection":
            return cell
        size = self._size(axis)
        period = 2.0 * (size - 1.0 if self.align_corners else size)
        period = anp.maximum(period, full_like(size, 1.0))
        phase = cell - period * anp.floor(cell / period)
        return anp.minimum(phase, period - phase - (0.0 if self.align_corners else 1.0))
