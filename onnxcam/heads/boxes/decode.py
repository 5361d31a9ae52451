"""Boxes in pixels of the model's input."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from onnxcam.arrays import Array, Floats
from onnxcam.dense import Boxes
from onnxcam.errors import ModelError
from onnxcam.heads.boxes.form import Size
from onnxcam.heads.boxes.forms import FORMS


def decode_boxes(boxes: Boxes, arrays: Mapping[str, Array], size: Size) -> Floats:
    """(N, positions, 4) in float64: x0, y0, x1, y1 in pixels of the model's input, whose height and width are
    `size`, in the order of the dense positions. `arrays` holds the tensors of `boxes` by name.

    Raises ModelError if the arrays do not fit the form.
    """
    numbers = [columns.read(arrays) for columns in boxes.columns]
    with np.errstate(over="ignore", invalid="ignore"):
        corners = FORMS[boxes.form].decode(numbers, boxes.numbers, size)
    positions = sum(rows.shape[1] for rows in numbers)
    if corners.shape != (len(numbers[0]), positions, 4):
        raise ModelError(
            f"the boxes of {', '.join(boxes.tensors)} have the shape {corners.shape[1:]}; expected "
            f"({positions}, 4); --head NAME names another form of boxes"
        )
    return corners
