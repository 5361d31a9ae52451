"""The cells of a detector's grids: where they are, and how far apart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from onnxcam.arrays import Floats
from onnxcam.errors import ModelError
from onnxcam.heads.boxes.form import BoxColumns, Size

STRIDES = (4, 8, 16, 32, 64, 128)  # pixels between cells
PYRAMIDS = (  # strides of detectors with several grids in one tensor, the usual ones first
    *(
        (8, 16, 32),
        (8, 16, 32, 64),
        (4, 8, 16, 32),
        (8, 16, 32, 64, 128),
        (16, 32),
        (4, 8, 16, 32, 64),
    ),
    *((16, 32, 64), (4, 8, 16), (8, 16), (4, 8)),
)
MAX_ANCHORS = 9  # boxes per cell


@dataclass(frozen=True)
class Grid:
    """The cells of all grids of a detector, row by row; each cell has `anchors` boxes one after another.

    cells: (positions, 2), the column and the row of the cell of each position.
    strides: (positions,), pixels between cells.
    """

    cells: Floats
    strides: Floats
    anchors: int

    def points(self, offset: float) -> Floats:
        """(positions, 2): x and y in pixels; `offset` is 0 for the corner of a cell, and 0.5 for its center."""
        return (self.cells + offset) * self.strides[:, None]


def match_strides(count: int, size: Size) -> tuple[tuple[int, ...], int] | None:
    """The strides of the grids that have `count` boxes together, and the boxes per cell; None if no usual ones
    fit. One box per cell and the usual strides are preferred.
    """
    candidates = [*PYRAMIDS, *((stride,) for stride in STRIDES)]
    for anchors in range(1, MAX_ANCHORS + 1):
        for strides in candidates:
            if anchors * sum(_cell_count(stride, size) for stride in strides) == count:
                return strides, anchors
    return None


def match_grids(counts: Sequence[int], size: Size) -> tuple[tuple[int, ...], int] | None:
    """The same for tensors of `counts` boxes. Of several tensors, each holds one grid."""
    if len(counts) == 1:
        return match_strides(counts[0], size)
    for anchors in range(1, MAX_ANCHORS + 1):
        strides = tuple(
            next((s for s in STRIDES if anchors * _cell_count(s, size) == count), 0)
            for count in counts
        )
        if all(strides):
            return strides, anchors
    return None


def grid_of(rows: Sequence[Floats], size: Size, anchors: int = 1) -> Grid:
    """The grid of numbers (N, positions, numbers), one array per tensor, with so many boxes per cell.
    ModelError if no usual strides fit.
    """
    counts = [array.shape[1] for array in rows]
    match = match_grids(counts, size)
    if match is None or match[1] != anchors:
        listed = " + ".join(map(str, counts))
        raise ModelError(
            f"{listed} boxes do not fit grids of {anchors} per cell in an image of {size[0]} x {size[1]} "
            "pixels; use images of the size that the model was made for"
        )
    return make_grid(*match, size)


def fits_grids(columns: BoxColumns, anchors: int) -> bool:
    """Whether the boxes lie on grids with so many of them per cell, as far as the sizes are known. An image of
    free sizes is assumed to be a square.
    """
    counts, size = columns.counts, columns.image_size
    if columns.anchors not in (None, anchors):
        return False
    if counts is None:
        return True
    if size is None:
        return all(math.isqrt(count // anchors) ** 2 * anchors == count for count in counts)
    match = match_grids(counts, size)
    return match is not None and match[1] == anchors


def make_grid(strides: Sequence[int], anchors: int, size: Size) -> Grid:
    """The cells of these grids, one grid after another."""
    cells = [np.repeat(_cells(stride, size), anchors, axis=0) for stride in strides]
    lengths = [len(rows) for rows in cells]
    return Grid(np.concatenate(cells), np.repeat(np.array(strides, np.float64), lengths), anchors)


def _cell_count(stride: int, size: Size) -> int:
    height, width = (-(-length // stride) for length in size)
    return height * width


def _cells(stride: int, size: Size) -> Floats:
    height, width = (-(-length // stride) for length in size)
    rows, columns = np.divmod(np.arange(height * width), width)
    return np.stack([columns, rows], axis=1).astype(np.float64)
