"""Distances from a point of a cell to the four sides, in units of the cells: SCRFD (Guo et al. 2021), with two
boxes per cell from its corner, and one-stage detectors as FCOS (Tian et al. 2019, equation 1), from its center.
"""

from __future__ import annotations

import numpy as np

from onnxcam.arrays import Floats
from onnxcam.dense import Boxes, Numbers
from onnxcam.heads.boxes.form import BoxColumns, Size, box_form
from onnxcam.heads.boxes.forms.bins import sides_at
from onnxcam.heads.boxes.forms.decoded import BOX
from onnxcam.heads.boxes.grid import fits_grids, grid_of

POSITIVE = {"Relu", "Exp", "Softplus"}  # activations of distances
BOXES_OF_SCRFD = 2  # per cell


def decode_distances(rows: list[Floats], numbers: Numbers, size: Size) -> Floats:
    """Distances to the left, top, right and bottom."""
    (offset,), (anchors,) = numbers.get("offset", (0.5,)), numbers.get("anchors", (1.0,))
    grid, distances = grid_of(rows, size, int(anchors)), np.concatenate(rows, axis=1)
    return sides_at(grid.points(offset), distances * grid.strides[:, None])


@box_form("scrfd", decode=decode_distances)
def find_scrfd(columns: BoxColumns) -> Boxes | None:
    """Four numbers of two boxes per cell, one tensor per grid, straight from the last weights."""
    fits = columns.width == BOX and not columns.own and fits_grids(columns, BOXES_OF_SCRFD)
    if not (fits and len(columns.columns) > 1 and columns.raw):
        return None
    return Boxes(
        "scrfd",
        columns.columns,
        {"offset": (0.0,), "anchors": (float(BOXES_OF_SCRFD),)},
        "distances from the corners of the cells are assumed, as in SCRFD",
    )


@box_form("distances", "fcos", decode=decode_distances)
def find_distances(columns: BoxColumns) -> Boxes | None:
    """Four positive numbers of one box per cell."""
    fits = columns.width == BOX and columns.raw and columns.activation in POSITIVE
    if not (fits and fits_grids(columns, 1)):
        return None
    return Boxes(
        "distances",
        columns.columns,
        {"offset": (0.5,)},
        "distances from the centers of the cells, in units of the cells, are assumed, as in FCOS",
    )
