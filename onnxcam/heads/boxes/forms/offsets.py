"""Offsets from cells and logarithms of sizes, one box per cell, as in YOLOX and YuNet: x = (o_x + column) s,
width = exp(o_w) s, for cells s pixels apart (Ge et al. 2021, YOLOX, section 2.1).
"""

from __future__ import annotations

import numpy as np

from onnxcam.arrays import Floats
from onnxcam.dense import Boxes, Numbers
from onnxcam.heads.boxes.form import BoxColumns, Size, box_form
from onnxcam.heads.boxes.forms.decoded import BOX, corners_of
from onnxcam.heads.boxes.grid import fits_grids, grid_of


def decode_offsets(rows: list[Floats], numbers: Numbers, size: Size) -> Floats:
    """x, y, log width, log height in units of the cells."""
    del numbers
    grid, offsets = grid_of(rows, size), np.concatenate(rows, axis=1)
    centers = (offsets[..., :2] + grid.cells) * grid.strides[:, None]
    sizes = np.exp(offsets[..., 2:4]) * grid.strides[:, None]
    return corners_of(np.concatenate([centers, sizes], axis=-1))


@box_form("offsets", "yolox", "yunet", decode=decode_offsets)
def find_offsets(columns: BoxColumns) -> Boxes | None:
    """Four numbers of one box per cell, straight from the last weights."""
    is_linear = columns.is_linear and columns.width == BOX
    after_box = columns.objectness is None or columns.objectness >= BOX
    if not (is_linear and after_box and fits_grids(columns, 1)):
        return None
    return Boxes(
        "offsets",
        columns.columns,
        assumed="offsets from the cells and logarithms of the sizes are assumed, as in YOLOX",
    )
