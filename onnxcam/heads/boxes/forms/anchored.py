"""Encodings relative to anchors that are not in the graph (Liu et al. 2016, SSD, equation 2): x = c_x + v t_x w
and width = w exp(v' t_w), for an anchor with the center c and the width w. Detectors differ in their anchors,
which are told by how many there are.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeAlias

import numpy as np

from onnxcam.arrays import Floats
from onnxcam.dense import Boxes, Numbers
from onnxcam.errors import ModelError
from onnxcam.heads.boxes.anchors import efficient_det, retina_face, ssd_300, tensorflow_ssd
from onnxcam.heads.boxes.form import BoxColumns, Size, box_form
from onnxcam.heads.boxes.forms.decoded import BOX, corners_of

MakeAnchors: TypeAlias = Callable[[Size], Floats]
X_FIRST, Y_FIRST = [0, 1, 2, 3], [1, 0, 3, 2]
VARIANCES = 0.1, 0.2  # of centers and of sizes


def decode_anchored(
    rows: list[Floats],
    numbers: Numbers,
    size: Size,
    anchors: MakeAnchors,
    order: list[int],
    variances: tuple[float, float],
) -> Floats:
    """Offsets and logarithms of sizes relative to the anchors."""
    del numbers
    codes, boxes = np.concatenate(rows, axis=1)[..., order], anchors(size)
    if codes.shape[1] != len(boxes):
        raise ModelError(
            f"{codes.shape[1]} boxes do not fit the {len(boxes)} anchors of an image of {size[0]} x {size[1]} "
            "pixels; use images of the size that the model was made for"
        )
    centers = boxes[:, :2] + codes[..., :2] * variances[0] * boxes[:, 2:]
    sizes = boxes[:, 2:] * np.exp(codes[..., 2:] * variances[1])
    return corners_of(np.concatenate([centers, sizes], axis=-1))


def find_anchored(
    columns: BoxColumns, name: str, detector: str, anchors: MakeAnchors, per_cell: int | None
) -> Boxes | None:
    """Four numbers per anchor in one tensor, straight from the last weights. Where sizes are free, `per_cell`,
    the number of anchors of each cell, tells.
    """
    is_alone = len(columns.columns) == 1 and not columns.own
    if not (is_alone and columns.is_linear and columns.width == BOX):
        return None
    counts, size = columns.counts, columns.image_size
    if counts is None or size is None:
        fits = per_cell is not None and columns.anchors == per_cell
    else:
        fits = sum(counts) == len(anchors(size))
    if not fits:
        return None
    return Boxes(
        name,
        columns.columns,
        assumed=f"encodings relative to the anchors of {detector} are assumed",
    )


def _register(
    name: str,
    detector: str,
    anchors: MakeAnchors,
    per_cell: int | None = None,
    order: list[int] = X_FIRST,
    variances: tuple[float, float] = VARIANCES,
) -> None:
    decode = partial(decode_anchored, anchors=anchors, order=order, variances=variances)
    box_form(name, decode=decode)(
        partial(find_anchored, name=name, detector=detector, anchors=anchors, per_cell=per_cell)
    )


_register("ssd", "TensorFlow's SSD", tensorflow_ssd, order=Y_FIRST)
_register("ssd300", "SSD300", ssd_300)
_register("retinaface", "RetinaFace", retina_face, 2)
_register("efficientdet", "EfficientDet", efficient_det, 9, Y_FIRST, (1.0, 1.0))
