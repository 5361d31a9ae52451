"""Write the scores of the boxes of a raw grid, of which each cell has several, into a graph."""

from __future__ import annotations

import math

import numpy as np

from onnxcam.arrays import Dim
from onnxcam.graph import anp
from onnxcam.graph.tracing import Builder, Value
from onnxcam.heads.detection_columns import ClassColumns

V2_ANCHORS = 5  # boxes in a cell of YOLO v2, whose classes exclude each other


def split_anchors(build: Builder, numbers: Value, axis: int, anchors: int) -> tuple[Value, int]:
    """The numbers of each box along an axis of their own, and that axis.

    (N, channels, rows, columns) becomes (N, anchors, numbers, cells), and (N, rows, columns, channels) becomes
    (N, cells, anchors, numbers).
    """
    batch, size = numbers.shape[0], int(numbers.shape[axis] or 0) // anchors
    sides = [dim for index, dim in enumerate(numbers.shape) if index not in (0, axis)]
    cells: Dim = (
        math.prod(dim for dim in sides if isinstance(dim, int))
        if all(isinstance(dim, int) for dim in sides)
        else build.unique_name("cells")
    )
    target = [0, anchors, size, -1] if axis == 1 else [0, -1, anchors, size]
    shape = (batch, anchors, size, cells) if axis == 1 else (batch, cells, anchors, size)
    split = build.op("Reshape", numbers, build.constant(np.array(target, np.int64)), shape=shape)
    return split, 2 if axis == 1 else 3


def activate_classes(build: Builder, classes: Value, axis: int, columns: ClassColumns) -> Value:
    """The probabilities of the classes of a box: by a Softmax in YOLO v2, else by a Sigmoid."""
    if columns.anchors != V2_ANCHORS:
        return build.op("Sigmoid", classes)
    powers = anp.exp(classes - anp.max(classes, axis=axis, keepdims=True))
    return powers / anp.sum(powers, axis=axis, keepdims=True)
