"""Models that score every pixel, box, or step: one score per class is added to them.

`with_dense_scores` adds the weighted sum over all positions, whose weights are an input. `ensure_class_scores`
adds a score that needs no choice of positions: for a segmenter's (N, classes, H, W) the mean over the pixels,
so that every pixel of the class counts; for a detector's (N, boxes, numbers) the maximum over the boxes of all
its heads, so that the surest box counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TypeAlias

import numpy as np
import onnx_graphsurgeon as gs

from onnxcam.graph import anp
from onnxcam.graph.node_errors import reports_node
from onnxcam.graph.slicing import slice_axes
from onnxcam.graph.tracing import Builder, Value
from onnxcam.heads.anchor_scores import V2_ANCHORS, activate_classes, split_anchors
from onnxcam.heads.detection_columns import ClassColumns
from onnxcam.heads.head import Head
from onnxcam.heads.output_choice import choose_output
from onnxcam.heads.output_tensors import origin_notice, score_tensors
from onnxcam.heads.pooled_heads import pooled_heads
from onnxcam.heads.score import check_detections, find_heads, no_score_error, to_score
from onnxcam.image.labels import metadata_labels
from onnxcam.model.model import Model
from onnxcam.specs import CLASS_SCORES, Score

Describe: TypeAlias = Callable[[Sequence[Head]], str]


@reports_node
def ensure_class_scores(model: Model, output: str | None = None) -> tuple[Model, Score]:
    """The model and its score (see `find_score`). If the output scores pixels, boxes, or steps, or its batch is
    not the first axis, the model gets the output `onnxcam/classes` with one score per class. Notices say what
    was assumed. The class names in the model's metadata help to find the classes.

    Raises what `find_score` raises if there is no score per pixel or box either.
    """
    model, heads = explained_heads(model, output, _describe_pooling)
    if heads[0].has_class_scores:
        return model, to_score(heads[0])
    return _add_pooled_scores(model, heads)


def explained_heads(
    model: Model, output: str | None, describe: Describe, class_axis: int | None = None
) -> tuple[Model, list[Head]]:
    """The model with notices about what was assumed, and the heads that are explained together. Heads with
    positions are described by `describe`. `class_axis` is the axis of the classes, None to find it.
    """
    names = metadata_labels(model.metadata)
    labels = len(names) if names else None
    heads = find_heads(model, output, labels, class_axis)
    if not heads:
        raise no_score_error(model, output)
    choice = choose_output(heads, labels)
    check_detections(model, choice.head, labels)
    explained = pooled_heads(model, heads, choice.head)
    choice_notice = choice.notice(explained)
    notices = [
        *_container_notices(model, explained),
        *([choice_notice] if choice_notice else []),
        *_head_notices(explained, describe),
    ]
    if notices:
        model = replace(model, notices=(*model.notices, *notices))
    return model, [choice.head, *(head for head in explained if head is not choice.head)]


def _container_notices(model: Model, heads: Sequence[Head]) -> Iterator[str]:
    """Notices about outputs that hold no scores themselves: what is explained instead."""
    names = {output.name for output in model.graph.outputs}
    for output in model.graph.outputs:
        tensors = [tensor.name for tensor in score_tensors(output)]
        for head in heads:
            if head.output.name in tensors and head.output.name not in names:
                yield origin_notice(output, head.output)


def _add_pooled_scores(model: Model, heads: list[Head]) -> tuple[Model, Score]:
    """A copy of the model with one score per class, pooled over the heads."""
    copy, node_count = model.copy(), len(model.graph.nodes)
    build = Builder(copy.graph)
    rows = [_pool(build, head) for head in heads]
    classes = rows[0] if len(rows) == 1 else build.op("Max", *rows)
    build.output(classes, CLASS_SCORES)
    mark_as_added(copy.graph.nodes[node_count:-1])
    is_probability = any(head.inner_logits for head in heads)
    count = heads[0].class_count
    return copy, Score(CLASS_SCORES, CLASS_SCORES, None, count, probability=is_probability)


def mark_as_added(nodes: Iterable[gs.Node]) -> None:
    """Give nodes and their outputs names that show that they are not the model's."""
    for node in nodes:
        node.name = node.outputs[0].name = f"{CLASS_SCORES}/{node.outputs[0].name}"


def _pool(build: Builder, head: Head) -> Value:
    """The scores (N, classes) of one head."""
    scores = class_scores(build, head)
    pool = anp.mean if head.is_map else anp.max
    pooled: Value = pool(scores, axis=head.other_axes, keepdims=True) if head.other_axes else scores
    first_axes = [axis for axis in (head.batch_axis, head.class_axis) if axis is not None]
    order = [*first_axes, *(axis for axis in range(pooled.ndim) if axis not in first_axes)]
    batch = 1 if head.batch_axis is None else scores.shape[head.batch_axis]
    transposed = anp.transpose(pooled, order) if order != sorted(order) else pooled
    target = build.constant(np.array([-1, head.class_count], np.int64))
    return build.op("Reshape", transposed, target, shape=(batch, head.class_count))


def class_scores(build: Builder, head: Head) -> Value:
    """The scores of the classes alone, times the objectness if there is one."""
    if head.objectness is not None:
        return _probability(build, head) * _probability(build, head.objectness)
    columns = head.class_columns
    if columns is None:
        return build.value(head.logits.name)
    if columns.logits is not None:
        return build.value(columns.logits)
    numbers, axis = build.value(head.logits.name), head.class_axis or 0
    if columns.anchors > 1:
        numbers, axis = split_anchors(build, numbers, axis, columns.anchors)
    axes = [axis]
    classes = slice_axes(numbers, [columns.start], [columns.stop], axes)
    if columns.objectness is None:
        return classes
    objectness = slice_axes(numbers, [columns.objectness], [columns.objectness + 1], axes)
    if columns.are_logits:
        product = activate_classes(build, classes, axis, columns) * build.op("Sigmoid", objectness)
    else:
        product = classes * objectness
    is_split = columns.anchors > 1 and head.class_axis == 1
    return anp.transpose(product, [0, 2, 1, 3]) if is_split else product


def _probability(build: Builder, head: Head) -> Value:
    """The scores as probabilities."""
    scores = build.value(head.logits.name)
    return scores if head.inner_logits else build.op("Sigmoid", scores)


def _head_notices(heads: Sequence[Head], describe: Describe) -> list[str]:
    """What was assumed about the heads that are explained."""
    first = heads[0]
    names = ", ".join(head.output.name for head in heads)
    notices = [f"{names} {describe(heads)}"] if first.other_axes else []
    notices += _batch_notices(first)
    if first.is_guess:
        notices.append(
            f"the class axis of {first.output.name} {list(first.output.shape)} is unknown, so the one "
            f"of size {first.class_count} is assumed; --output NAME chooses another tensor"
        )
    if first.inner_logits:
        notices.append(
            f"{first.output.name} is a probability, whose gradient nearly vanishes if the model is confident; "
            f"--output NAME chooses scores before it ({', '.join(first.inner_logits[:3])})"
        )
    return notices


def _batch_notices(head: Head) -> Iterator[str]:
    """Where the images of a batch are, if that is not the first axis."""
    shape = f"{head.output.name} {list(head.output.shape)}"
    if head.batch_axis is None:
        yield f"{shape} has no batch axis, so it is taken as the output of one image"
    elif head.batch_axis > 0:
        yield f"axis {head.batch_axis} of {shape} is taken as the batch; --output NAME chooses another tensor"


def _describe_pooling(heads: Sequence[Head]) -> str:
    """How the scores of pixels or boxes are pooled, as a predicate of the output's name."""
    head = heads[0]
    if head.is_map:
        what = "score" if len(heads) > 1 else "scores"
        return f"{what} each pixel: the mean of a class over the image is explained"
    of_class = "" if head.class_count == 1 else "of a class "
    return f"{describe_numbers(heads)}the maximum {of_class}over the boxes is explained"


def describe_numbers(heads: Sequence[Head]) -> str:
    """What the numbers of a box are, as a predicate of the output's name."""
    head, plural = heads[0], len(heads) > 1
    count, columns = head.class_count, head.class_columns
    has = "have" if plural else "has"
    if columns is not None:
        position = (
            f"number {columns.start}"
            if count == 1
            else f"numbers {columns.start} to {columns.stop - 1}"
        )
        size = head.logits.shape[head.class_axis] // columns.anchors
        boxes = f"{columns.anchors} boxes per cell, " if columns.anchors > 1 else ""
        return (
            f"{has} {boxes}{size} numbers per box, and {position} (from 0) "
            f"{'is the score of 1 class' if count == 1 else f'are the scores of {count} classes'}"
            f"{_describe_objectness(columns)}: "
        )
    times = f", times {head.objectness.output.name}" if head.objectness else ""
    times += " and the like" if times and plural else ""
    if count == 1:
        return f"{has} one number per box{times}: "
    return f"{has} {count} numbers per box, the scores of as many classes{times}: "


def _describe_objectness(columns: ClassColumns) -> str:
    if columns.objectness is None:
        return ""
    both = ", both after a Sigmoid" if columns.are_logits else ""
    if columns.anchors == V2_ANCHORS:
        both = ", after a Softmax over the classes and a Sigmoid"
    return f", times number {columns.objectness}{both}"
