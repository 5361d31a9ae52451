"""Raw grids of YOLO v2 to v5, whose channels hold the numbers of several boxes in each cell: for each of its
anchors the box, the objectness, and the classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import onnx_graphsurgeon as gs

from onnxcam.arrays import Shape
from onnxcam.heads.detection_columns import BOX, ClassColumns
from onnxcam.heads.tasks.maps import image_size
from onnxcam.model.model import Model

ANCHORS = 3  # boxes in a cell, where no labels tell how many
COARSEST, FINEST = 64, 8  # pixels that a cell spans
BEFORE_CLASSES = BOX + 1  # numbers of the box and the objectness


def anchor_columns(
    model: Model, tensor: gs.Tensor, axis: int, labels: int | None
) -> ClassColumns | None:
    """The classes among the channels of a raw grid, along `axis` of (N, channels, rows, columns) or (N, rows,
    columns, channels); None for others. `labels` is the number of classes that the metadata names.
    """
    shape = tuple(tensor.shape)
    if len(shape) != len("NCHW") or axis not in (1, 3):
        return None
    size, grids = int(shape[axis]), _grids_like(model, shape, axis)
    if labels is not None:
        anchors, rest = divmod(size, BEFORE_CLASSES + labels)
    else:
        anchors, rest = ANCHORS, size % ANCHORS
        if len(grids) < 2 or _has_boxes(model, size, axis) or size // ANCHORS <= BEFORE_CLASSES:
            return None
    if rest or anchors < 2 or not all(_is_coarse(model, grid) for grid in grids):
        return None
    return ClassColumns(
        BEFORE_CLASSES, size // anchors, BOX, None, are_logits=True, anchors=anchors
    )


def _grids_like(model: Model, shape: Shape, axis: int) -> set[Shape]:
    """Rows and columns of the outputs with as many channels."""
    shapes = (tuple(output.shape or ()) for output in model.graph.outputs)
    return {_grid(shape, axis)} | {
        _grid(other, axis)
        for other in shapes
        if len(other) == len(shape) and other[axis] == shape[axis]
    }


def _grid(shape: Shape, axis: int) -> Shape:
    return tuple(dim for index, dim in enumerate(shape) if index not in (0, axis))


def _is_coarse(model: Model, grid: Sequence[object]) -> bool:
    """Whether a cell spans as many pixels as in a detector."""
    cells = [dim for dim in grid if isinstance(dim, int)]
    pixels = math.prod(image_size(model))
    if len(cells) < 2 or not pixels:
        return False
    return FINEST**2 <= pixels / math.prod(cells) <= COARSEST**2


def _has_boxes(model: Model, size: int, axis: int) -> bool:
    """Whether another output, without as many channels, has the numbers of a box on an axis of its own."""
    shapes = (tuple(output.shape or ()) for output in model.graph.outputs)
    return any(BOX in shape[1:] for shape in shapes if shape[axis : axis + 1] != (size,))
