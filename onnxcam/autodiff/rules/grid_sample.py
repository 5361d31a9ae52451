"""Sampling at places that are computed: y = sum over the nearest cells of weight x cell.

The cotangent of the input is scattered to the same cells by the same weights; that of a place is the
cotangent times the slope of the weights. What lies outside is handled cell by cell: it is zero, the
border, or a mirror image, so that slopes come out right beyond the border too.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

from onnxcam.autodiff.rule_table import Rules
from onnxcam.graph.slicing import dim_size, full_like
from onnxcam.graph.value import Value, np

rules = Rules()
CUBIC = -0.75  # the parameter of Keys 1981 that torch and ONNX have
OFFSETS = {"nearest": (0,), "linear": (0, 1), "cubic": (-1, 0, 1, 2)}
OLD = {"bilinear": "linear", "bicubic": "cubic"}  # names before opset 20


@dataclass(frozen=True)
class Tap:
    """One cell of an axis for every place: its number, weight and slope of the weight, (N, 1, P)."""

    index: Value
    weight: Value
    slope: Value


@dataclass(frozen=True)
class Sampling:
    """How a GridSample walks: x (N, C, *sizes) at the places of a grid (N, *out, d)."""

    x: Value
    grid: Value
    mode: str
    padding: str
    align: bool

    @property
    def rank(self) -> int:
        """The number of spatial axes."""
        return self.x.ndim - 2

    def size(self, axis: int) -> Value:
        """The size of a spatial axis as a float (1,)."""
        return dim_size(self.x, axis + 2).astype(self.grid.dtype)

    def stretch(self, axis: int) -> Value:
        """Cells per unit of the grid, which goes from -1 to 1 over the axis."""
        size = self.size(axis)
        return (size - 1.0 if self.align else size) * 0.5

    def places(self, axis: int) -> Value:
        """Where samples lie along a spatial axis, in cells (N, 1, P); a grid names the last axis first."""
        flat = np.swapaxes(np.reshape(self.grid, [0, -1, self.rank]), 1, 2)
        number = self.grid.build.constant(np.array([self.rank - 1 - axis]))
        along = self.grid.build.op("Gather", flat, number, axis=1)
        middle = (self.size(axis) - 1.0) * 0.5
        return along * self.stretch(axis) + middle

    def taps(self, axis: int) -> list[Tap]:
        """The cells of an axis that count for each place."""
        places = self.places(axis)
        if self.mode == "nearest":
            cell = places.build.op("Round", places)  # halves to even, as torch has it
            return [self._tap(axis, cell, full_like(cell, 1.0), full_like(cell, 0.0))]
        base = np.floor(places)
        beyond = places - base
        return [
            self._tap(axis, base + float(offset), *self._kernel(beyond, offset))
            for offset in OFFSETS[self.mode]
        ]

    def _kernel(self, beyond: Value, offset: int) -> tuple[Value, Value]:
        """The weight of the cell `offset` behind the one before a place, and its slope."""
        sign = 1.0 if offset < 1 else -1.0  # of the slope of the distance
        d = beyond - float(offset) if offset < 1 else float(offset) - beyond
        if self.mode == "linear":
            return 1.0 - d, full_like(d, -sign)
        a = CUBIC
        if offset in (0, 1):
            slope = (3 * (a + 2) * d - 2 * (a + 3)) * d
            return ((a + 2) * d - (a + 3)) * d * d + 1.0, slope * sign
        slope = (3 * a * d - 10 * a) * d + 8 * a
        return ((a * d - 5 * a) * d + 8 * a) * d - 4 * a, slope * sign

    def _tap(self, axis: int, cell: Value, weight: Value, slope: Value) -> Tap:
        last = self.size(axis) - 1.0
        kept = np.minimum(np.maximum(self._mirrored(axis, cell), full_like(last, 0.0)), last)
        if self.padding == "zeros":
            inside = np.equal(kept, cell).astype(weight.dtype)
            weight, slope = weight * inside, slope * inside
        return Tap(kept.astype(np.dtype(np.int64)), weight, slope)

    def _mirrored(self, axis: int, cell: Value) -> Value:
        """The cell that a mirror at both borders shows: at the outermost cells, or beyond them."""
        if self.padding != "reflection":
            return cell
        size = self.size(axis)
        period = np.maximum(2.0 * (size - 1.0 if self.align else size), full_like(size, 1.0))
        once = cell - period * np.floor(cell / period)
        return np.minimum(once, period - once - (0.0 if self.align else 1.0))

    def corners(self) -> Iterator[tuple[Value, tuple[Tap, ...]]]:
        """Every cell that counts: its number in the flattened axes (N, 1, P), and its taps by axis."""
        axes = [self.taps(axis) for axis in range(self.rank)]
        for taps in itertools.product(*axes):
            index = taps[0].index
            for axis, tap in enumerate(taps[1:], start=3):
                index = index * dim_size(self.x, axis) + tap.index
            yield index, taps


def product(factors: list[Value]) -> Value:
    """All factors multiplied."""
    found = factors[0]
    for each in factors[1:]:
        found = found * each
    return found


def grid_sample_vjp_input(g: Value, sampling: Sampling) -> Value:
    """The cotangent of x: each corner in turn takes its share."""
    x, flat = sampling.x, np.reshape(g, [0, 0, -1])
    total = np.reshape(full_like(x, 0.0), [0, 0, -1])
    for index, taps in sampling.corners():
        share = flat * product([tap.weight.astype(g.dtype) for tap in taps])
        where = g.build.op("Expand", index, g.build.op("Shape", share))
        total = g.build.op("ScatterElements", total, where, share, axis=2, reduction="add")
    return g.build.op("Reshape", total, g.build.shape_of(x), shape=x.shape)


def grid_sample_vjp_grid(g: Value, sampling: Sampling) -> Value:
    """The cotangent of the grid: sum over channels and corners of g x cell x slope."""
    x, flat = np.reshape(sampling.x, [0, 0, -1]), np.reshape(g, [0, 0, -1])
    along: list[list[Value]] = [[] for _ in range(sampling.rank)]
    for index, taps in sampling.corners():
        where = g.build.op("Expand", index, g.build.op("Shape", flat))
        cells = g.build.op("GatherElements", x, where, axis=2)
        matched = np.sum(flat * cells, axis=1, keepdims=True).astype(sampling.grid.dtype)
        for axis in range(sampling.rank):
            factors = [t.slope if i == axis else t.weight for i, t in enumerate(taps)]
            along[axis].append(matched * product(factors))
    columns = [
        sum(terms[1:], start=terms[0]) * sampling.stretch(axis) for axis, terms in enumerate(along)
    ]
    found = np.swapaxes(np.concatenate(columns[::-1], axis=1), 1, 2)
    return g.build.op("Reshape", found, g.build.shape_of(sampling.grid), shape=sampling.grid.shape)


def _sampling(x: Value, grid: Value, mode: str, padding_mode: str, align_corners: int) -> Sampling:
    return Sampling(x, grid, OLD.get(mode, mode), padding_mode, bool(align_corners))


rules.vjp(
    "GridSample",
    lambda g, y, x, grid, *, mode, padding_mode, align_corners: grid_sample_vjp_input(
        g, _sampling(x, grid, mode, padding_mode, align_corners)
    ),
    lambda g, y, x, grid, *, mode, padding_mode, align_corners: grid_sample_vjp_grid(
        g, _sampling(x, grid, mode, padding_mode, align_corners)
    ),
)
