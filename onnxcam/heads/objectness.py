"""Outputs that say whether there is an object at all: the scores of classes are multiplied by them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from onnxcam.heads.detection_columns import BOX
from onnxcam.heads.head import Head
from onnxcam.heads.output_choice import OTHER_NAMES, SCORE_NAMES

OBJECTNESS = re.compile(r"obj|centerness|ctrness|iou|quality", re.IGNORECASE)


def join_objectness(heads: Sequence[Head]) -> list[Head]:
    """The heads, with the scores of classes joined with the objectness of the same positions, which is no head
    of its own then.
    """
    objectness = [head for head in heads if _is_objectness(head)]
    joined = [_join(head, objectness) for head in heads if head not in objectness]
    is_used = any(head.objectness is not None for head in joined)
    return joined if is_used else list(heads)


def _is_objectness(head: Head) -> bool:
    is_single = head.class_count == 1 and bool(head.other_axes) and head.class_columns is None
    return is_single and bool(OBJECTNESS.search(head.output.name))


def _join(head: Head, objectness: list[Head]) -> Head:
    name = head.output.name
    is_score = bool(SCORE_NAMES.search(name)) or not (
        OTHER_NAMES.search(name) or head.class_count == BOX
    )
    if not is_score or head.output_activation in ("Softmax", "LogSoftmax"):
        return head
    return replace(
        head, objectness=next((other for other in objectness if _fits(head, other)), None)
    )


def _fits(head: Head, objectness: Head) -> bool:
    """Whether both have the same axes, except that of the classes."""
    shapes = [list(tensor.shape) for tensor in (head.logits, objectness.logits)]
    if len(shapes[0]) != len(shapes[1]):
        return False
    if head.class_axis is not None:
        for shape in shapes:
            shape[head.class_axis] = 1
    is_single = head.class_axis is None or objectness.logits.shape[head.class_axis] == 1
    return is_single and shapes[0][1:] == shapes[1][1:]
