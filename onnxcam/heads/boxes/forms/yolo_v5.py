"""YOLOv5 before its boxes are decoded: x = (2 sigmoid(o_x) - 0.5 + column) s, width = (2 sigmoid(o_w))^2 w for
anchors of the width w, three per cell of grids 8, 16 and 32 pixels apart, one grid per tensor.
"""

from __future__ import annotations

import numpy as np

from onnxcam.arrays import Floats
from onnxcam.dense import Boxes, Numbers
from onnxcam.heads.boxes.form import BoxColumns, Size, box_form
from onnxcam.heads.boxes.forms.decoded import BOX, corners_of
from onnxcam.heads.boxes.grid import fits_grids, grid_of

ANCHORS = {  # width and height in pixels, by stride
    8: ((10, 13), (16, 30), (33, 23)),
    16: ((30, 61), (62, 45), (59, 119)),
    32: ((116, 90), (156, 198), (373, 326)),
}
PER_CELL = 3


def decode_yolo_v5(rows: list[Floats], numbers: Numbers, size: Size) -> Floats:
    """One grid per array, the positions of the first anchor first."""
    (is_activated,) = numbers.get("activated", (0.0,))
    grids = []
    for array in rows:
        grid = grid_of([array[:, : array.shape[1] // PER_CELL]], size)
        values = array if is_activated else 1 / (1 + np.exp(-array))
        anchors = np.repeat(ANCHORS[int(grid.strides[0])], len(grid.cells), axis=0)
        cells = np.tile(grid.cells, (PER_CELL, 1))
        centers = (2 * values[..., :2] - 0.5 + cells) * grid.strides[0]
        sizes = np.square(2 * values[..., 2:4]) * anchors
        grids.append(np.concatenate([centers, sizes], axis=-1))
    return corners_of(np.concatenate(grids, axis=1))


@box_form("yolov5-raw", decode=decode_yolo_v5)
def find_yolo_v5(columns: BoxColumns) -> Boxes | None:
    """Tensors (N, 3, rows, columns, numbers) straight from the last weights, or after a Sigmoid."""
    is_own = columns.own and columns.width == BOX and columns.objectness == BOX
    is_raw = columns.raw and columns.activation in ("", "Sigmoid")
    by_anchor = all(len(grid) == 3 and grid[0] == PER_CELL for grid in columns.grids)
    if not (is_own and is_raw and by_anchor and fits_grids(columns, PER_CELL)):
        return None
    return Boxes(
        "yolov5-raw",
        columns.columns,
        {"activated": (float(columns.activation == "Sigmoid"),)},
        "boxes relative to the anchors of YOLOv5 are assumed",
    )
