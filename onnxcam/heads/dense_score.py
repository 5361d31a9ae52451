"""Models that score every pixel, box, or step: one score per class is added to them.

Of a segmenter's (N, classes, H, W) it is the mean over the pixels, so that every pixel of the class counts; of
a detector's (N, boxes, numbers) the maximum over the boxes of all its heads, so that the surest box counts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from onnxcam.graph import anp
from onnxcam.graph.node_errors import reports_node
from onnxcam.graph.slicing import slice_axes
from onnxcam.graph.tracing import Builder, Value
from onnxcam.heads.heads import Head, unwrapped
from onnxcam.heads.output_choice import choose
from onnxcam.heads.score import as_score, check_detections, find_heads, refusal
from onnxcam.model.model import Model
from onnxcam.specs import CLASS_SCORES, Score


@reports_node
def ensure_class_scores(
    model: Model, output: str | None = None, labels: int | None = None
) -> tuple[Model, Score]:
    """The model and its score (see `find_score`). If the output scores pixels, boxes, or steps, or its batch is
    not the first axis, the model gets the output `onnxcam/classes` with one score per class. Notices say what
    was assumed. `labels` is the number of classes that the model's metadata names.

    Raises what `find_score` raises where there is no score for each pixel or box either.
    """
    heads = find_heads(model, output, labels)
    if not heads:
        raise refusal(model, output)
    choice = choose(heads, labels)
    chosen = choice.head
    check_detections(model, chosen, labels)
    together = [head for head in heads if _is_like(head, chosen)]
    named = choice.notice(together)
    notices = [*_unwrapping(model, together), *([named] if named else []), *_notices(together)]
    if notices:
        model = replace(model, notices=(*model.notices, *notices))
    if chosen.is_plain:
        return model, as_score(chosen)
    return _pooled(model, together)


def _unwrapping(model: Model, heads: Sequence[Head]) -> Iterator[str]:
    """Notices about outputs that are not tensors: what is explained instead."""
    for output in model.graph.outputs:
        inside = [tensor.name for tensor in unwrapped(output)]
        for head in heads:
            if head.output.name in inside and output.name != head.output.name:
                yield (
                    f"{output.name} is not a tensor: {head.output.name}, which it is made from, is explained; "
                    "--output NAME chooses another tensor"
                )


def _is_like(head: Head, chosen: Head) -> bool:
    """Whether a head scores the boxes of another grid in the same way; one score per class stands alone."""
    if not chosen.others:
        return head is chosen
    own, other = (
        (one.count, len(one.others), one.columns, one.squashing) for one in (head, chosen)
    )
    return own == other


def _pooled(model: Model, heads: list[Head]) -> tuple[Model, Score]:
    copied, own = model.copy(), len(model.graph.nodes)
    build = Builder(copied.graph)
    rows = [_row(build, head) for head in heads]
    classes = rows[0] if len(rows) == 1 else build.op("Max", *rows)
    build.output(classes, CLASS_SCORES)
    for node in copied.graph.nodes[own:-1]:  # the name says that they are not layers of the model
        node.name = node.outputs[0].name = f"{CLASS_SCORES}/{node.outputs[0].name}"
    inner = any(head.inner for head in heads)
    return copied, Score(CLASS_SCORES, CLASS_SCORES, None, heads[0].count, probability=inner)


def _row(build: Builder, head: Head) -> Value:
    """(N, classes) of one head."""
    scores = _of_classes(build, head)
    pool = anp.mean if head.is_map else anp.max
    pooled: Value = pool(scores, axis=head.others, keepdims=True) if head.others else scores
    front = [axis for axis in (head.batch, head.classes) if axis is not None]
    order = [*front, *(axis for axis in range(pooled.ndim) if axis not in front)]
    batch = 1 if head.batch is None else scores.shape[head.batch]
    turned = anp.transpose(pooled, order) if order != sorted(order) else pooled
    target = build.constant(np.array([-1, head.count], np.int64))
    return build.op("Reshape", turned, target, shape=(batch, head.count))


def _of_classes(build: Builder, head: Head) -> Value:
    """The scores of the classes alone, times the objectness, if there is one."""
    columns = head.columns
    if columns is None:
        return build.value(head.logits.name)
    if columns.logits is not None:
        return build.value(columns.logits)
    numbers = build.value(head.logits.name)
    axes = [head.classes or 0]
    classes = slice_axes(numbers, [columns.start], [columns.stop], axes)
    if columns.objectness is None:
        return classes
    objectness = slice_axes(numbers, [columns.objectness], [columns.objectness + 1], axes)
    if columns.raw:
        return build.op("Sigmoid", classes) * build.op("Sigmoid", objectness)
    return classes * objectness


def _notices(heads: Sequence[Head]) -> list[str]:
    """What was assumed about the heads that are explained."""
    first = heads[0]
    names = ", ".join(head.output.name for head in heads)
    notices = [f"{names} {_as_dense(first)}"] if first.others else []
    if first.guessed:
        notices.append(
            f"the class axis of {first.output.name} {list(first.output.shape)} is unknown: the one "
            f"of size {first.count} is assumed; --output NAME chooses another tensor"
        )
    if first.inner:
        notices.append(
            f"{first.output.name} is a probability, whose gradient nearly vanishes if the model is confident; "
            f"--output NAME chooses scores before it ({', '.join(first.inner[:3])})"
        )
    return notices


def _as_dense(head: Head) -> str:
    count, columns = head.count, head.columns
    if head.is_map:
        return "scores each pixel: the mean of a class over the image is explained"
    if columns is not None:
        times = "" if columns.objectness is None else f", times number {columns.objectness}"
        times += ", both after a Sigmoid" if columns.raw else ""
        place = (
            f"number {columns.start}"
            if count == 1
            else f"numbers {columns.start} to {columns.stop - 1}"
        )
        size = head.logits.shape[head.classes]
        return (
            f"has {size} numbers per box, and {place} (from 0) "
            f"{'is the score of 1 class' if count == 1 else f'are the scores of {count} classes'}: "
            f"the maximum of a class over the boxes is explained{times}"
        )
    if count == 1:
        return "has one number per box: its maximum over the boxes is explained"
    return (
        f"has {count} numbers per box: the maximum over the boxes of the one that --target chooses is "
        "explained"
    )
