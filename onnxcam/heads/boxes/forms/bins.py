"""Distances from a cell's center to the four sides, each the mean of a distribution over bins (Li et al. 2020,
Generalized Focal Loss, equation 3): NanoDet, PicoDet, and Ultralytics models before their boxes are decoded.
"""

from __future__ import annotations

import numpy as np

from onnxcam.arrays import Floats
from onnxcam.dense import Boxes, Numbers
from onnxcam.heads.boxes.form import BoxColumns, Size, box_form
from onnxcam.heads.boxes.grid import fits_grids, grid_of, match_strides

SIDES = 4
MIN_BINS = 6


def decode_bins(rows: list[Floats], numbers: Numbers, size: Size) -> Floats:
    """Logits of the bins: those of the distance to the left side, then top, right and bottom."""
    grid, logits = grid_of(rows, size), np.concatenate(rows, axis=1)
    bins = logits.reshape(*logits.shape[:2], SIDES, -1)
    weights = np.exp(bins - bins.max(axis=-1, keepdims=True))
    means = weights @ np.arange(bins.shape[-1]) / weights.sum(axis=-1)
    (offset,) = numbers.get("offset", (0.5,))
    return sides_at(grid.points(offset), means * grid.strides[:, None])


def sides_at(points: Floats, distances: Floats) -> Floats:
    """x0, y0, x1, y1 by the distances (…, 4) of points (…, 2) to the left, top, right and bottom."""
    return np.concatenate([points - distances[..., :2], points + distances[..., 2:]], axis=-1)


@box_form("bins", "picodet", "nanodet", decode=decode_bins)
def find_bins(columns: BoxColumns) -> Boxes | None:
    """Several numbers per side, straight from the last weights."""
    bins, rest = divmod(columns.width, SIDES)
    if not columns.is_linear or rest or bins < MIN_BINS or not fits_grids(columns, 1):
        return None
    # NanoDet-Plus, in one tensor with its scores on four grids, measures from the corners of cells
    point, offset = ("corners", 0.0) if _is_nanodet_plus(columns) else ("centers", 0.5)
    return Boxes(
        "bins",
        columns.columns,
        {"offset": (offset,)},
        f"distances from the {point} of the cells are assumed, with {bins} bins for each",
    )


def _is_nanodet_plus(columns: BoxColumns) -> bool:
    if not columns.own or len(columns.columns) > 1:
        return False
    if columns.counts is None or columns.image_size is None:
        return True
    match = match_strides(columns.counts[0], columns.image_size)
    return match is not None and len(match[0]) == 4
