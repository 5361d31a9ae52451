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
    others = [head for head in heads if head not in objectness]
    scores = [head for head in others if _is_score(head)]
    if len(scores) == len(objectness):  # grid by grid, since free sizes do not tell which is whose
        pairs = {id(head): [other] for head, other in zip(scores, objectness, strict=True)}
    else:
        pairs = {id(head): objectness for head in scores}
    joined = [_join(head, pairs.get(id(head), [])) for head in others]
    is_used = any(head.objectness is not None for head in joined)
    return joined if is_used else list(heads)


def _is_objectness(head: Head) -> bool:
    is_single = head.class_count == 1 and bool(head.other_axes) and head.class_columns is None
    return is_single and bool(OBJECTNESS.search(head.output.name))


def _is_score(head: Head) -> bool:
    name = head.output.name
    is_other = bool(OTHER_NAMES.search(name)) or head.class_count == BOX
    has_softmax = head.output_activation in ("Softmax", "LogSoftmax")
    return not has_softmax and (bool(SCORE_NAMES.search(name)) or not is_other)


def _join(head: Head, objectness: list[Head]) -> Head:
    fitting = (other for other in objectness if _fits(head, other, is_pair=len(objectness) == 1))
    return replace(head, objectness=next(fitting, None))


def _fits(head: Head, objectness: Head, *, is_pair: bool) -> bool:
    """Whether both have the same axes, except that of the classes. Those of a pair may be free."""
    shapes = [list(tensor.shape) for tensor in (head.logits, objectness.logits)]
    if is_pair:
        shapes = [[dim if isinstance(dim, int) else None for dim in shape] for shape in shapes]
    if len(shapes[0]) != len(shapes[1]):
        return False
    if head.class_axis is not None:
        for shape in shapes:
            shape[head.class_axis] = 1
    is_single = head.class_axis is None or objectness.logits.shape[head.class_axis] == 1
    return is_single and shapes[0][1:] == shapes[1][1:]
