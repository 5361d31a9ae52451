"""One box per cell of a single grid, as in FastestDet: x = (column + tanh(o_x)) / columns and width =
sigmoid(o_w) in fractions of the image, after the objectness.
"""

from __future__ import annotations

import numpy as np

from onnxcam.arrays import Floats
from onnxcam.dense import Boxes, Numbers
from onnxcam.heads.boxes.form import BoxColumns, Size, box_form
from onnxcam.heads.boxes.forms.decoded import BOX, corners_of
from onnxcam.heads.boxes.grid import grid_of


def decode_fastest_det(rows: list[Floats], numbers: Numbers, size: Size) -> Floats:
    """Offsets before tanh, sizes before the Sigmoid."""
    del numbers
    grid, offsets, (height, width) = grid_of(rows, size), np.concatenate(rows, axis=1), size
    centers = (grid.cells + np.tanh(offsets[..., :2])) * grid.strides[:, None]
    sizes = np.array([width, height]) / (1 + np.exp(-offsets[..., 2:4]))
    return corners_of(np.concatenate([centers, sizes], axis=-1))


@box_form("fastestdet", decode=decode_fastest_det)
def find_fastest_det(columns: BoxColumns) -> Boxes | None:
    """Four raw numbers after the objectness."""
    is_linear = columns.is_linear and columns.width == BOX
    if not (is_linear and columns.own and columns.objectness == 0 and len(columns.columns) == 1):
        return None
    return Boxes(
        "fastestdet", columns.columns, assumed="offsets and sizes as in FastestDet are assumed"
    )
