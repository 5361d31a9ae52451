"""The heads that are explained together: the scores of several grids of one detector."""

from __future__ import annotations

import math
from collections.abc import Sequence

from onnxcam.arrays import Dim
from onnxcam.heads.head import Head
from onnxcam.heads.tasks.detection import box_companion
from onnxcam.heads.tasks.maps import image_size
from onnxcam.model.model import Model

COARSE = 8  # pixels of the image that a cell of a detector spans at least


def pooled_heads(model: Model, heads: Sequence[Head], chosen: Head) -> list[Head]:
    """The chosen head and those that score other positions in the same way, in the order of the outputs. A head
    with one score per class is explained alone, and so is one with scores of pixels: others like it are
    auxiliary, unless they are coarse grids, or have boxes.
    """
    if not chosen.other_axes:
        return [chosen]
    alike = [head for head in heads if _key(head) == _key(chosen)]
    if chosen.is_map and not _are_grids_of_detector(model, alike):
        return [chosen]
    return alike


def _key(head: Head) -> tuple[object, ...]:
    """What heads for different grids of one detector have in common."""
    return head.class_count, len(head.other_axes), head.class_columns, head.output_activation


def _are_grids_of_detector(model: Model, heads: Sequence[Head]) -> bool:
    """Whether maps are of different sizes, and either have boxes or are much smaller than the image."""
    sizes = [head.position_sizes for head in heads]
    if len(set(sizes)) < len(sizes):
        return False
    pixels = math.prod(image_size(model))
    is_coarse = all(_count(dims) * COARSE**2 <= pixels for dims in sizes)
    return is_coarse or box_companion(model, heads) is not None


def _count(dims: Sequence[Dim]) -> float:
    """How many positions; infinite if the graph leaves that free."""
    return math.prod(dim if isinstance(dim, int) else math.inf for dim in dims)
