"""Maps: scores of pixels (segmentation), or another image (depth, matting, super-resolution)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from onnxcam.arrays import Dim
from onnxcam.dense import IMAGE, SEGMENTATION
from onnxcam.heads.head import Head
from onnxcam.heads.tasks.task import Task
from onnxcam.model.channel_axis import image_layout
from onnxcam.model.model import Model
from onnxcam.spatial.axes import BATCH, COLUMNS, ROWS, kinds

COLORS = 3


def map_task(model: Model, head: Head) -> Task | None:
    """Segmentation or an image, for a head with scores of pixels; None for others."""
    if head.class_columns is not None or not (head.is_map or _is_flattened_map(model, head)):
        return None
    name = head.output.name
    if head.class_axis is None:
        if head.output_activation == "Sigmoid":
            return Task(SEGMENTATION, f"{name} is one map of probabilities", is_assumed=True)
        return Task(IMAGE, f"{name} is one map without a Sigmoid", is_assumed=True)
    if head.class_count == COLORS and head.output_activation is None:
        return Task(IMAGE, f"{name} has {COLORS} channels and no Softmax", is_assumed=True)
    return Task(SEGMENTATION, f"{name} scores {head.class_count} classes at each pixel")


def _is_flattened_map(model: Model, head: Head) -> bool:
    """Whether all pixels of the image lie along one axis: a coarser grid may be one of boxes."""
    if len(head.other_axes) != 1 or head.axes is None:
        return False
    axis = head.other_axes[0]
    holds_grid = kinds(head.axes[axis]) - {BATCH} == {ROWS, COLUMNS}
    return holds_grid and head.logits.shape[axis] == math.prod(image_size(model))


def image_size(model: Model) -> Sequence[int]:
    """Height and width of the image input; 0 where they are free."""
    images = (tensor for tensor in model.graph.inputs if len(tensor.shape or ()) == len("NCHW"))
    image = next(images, None)
    if image is None:
        return (0, 0)
    layout = image_layout(model.graph, image.name)
    sizes: list[Dim] = [image.shape[layout.index(letter)] for letter in "HW"]
    return [size if isinstance(size, int) else 0 for size in sizes]
