"""What the outputs of a model are taken for: the task, the classes, where their scores are, and the batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from onnxcam.dense import DETECTION, IMAGE, SEGMENTATION, SEQUENCE
from onnxcam.heads.dense_score import explained_heads
from onnxcam.heads.head import Head
from onnxcam.heads.tasks.choice import task_of
from onnxcam.heads.tasks.no_class import class_of_nothing
from onnxcam.heads.tasks.task import CLASSIFICATION, EMBEDDING, REGRESSION
from onnxcam.image.labels import metadata_labels
from onnxcam.model.model import Model

DEFAULT_TARGETS = {
    CLASSIFICATION: "top1, the class with the highest score",
    DETECTION: "top1, the best detection",
    SEGMENTATION: "top1, the class with the largest area, where it is the best one",
    SEQUENCE: "the decoded text",
    EMBEDDING: "the norm of the embedding",
    REGRESSION: "value:0, the first value",
    IMAGE: "the mean over the image",
}


def describe_outputs(model: Model, output: str | None = None) -> dict[str, Any]:
    """What the explained outputs are taken for, as plain data: `task` and `reason`, whether that is `assumed`,
    the `tensors` with the scores, the number of `classes` and of scored `positions`, the `class_axis` and the
    `batch_axis` of the tensors, the `columns` that hold the classes if others do not, the `objectness`, the
    `activation` after the scores, the class that stands for `nothing`, and the default `target`.

    Raises what `find_score` raises.
    """
    model, heads = explained_heads(model, output, _without_words)
    first, task = heads[0], task_of(model, heads)
    nothing = class_of_nothing(first, task.name, metadata_labels(model.metadata))
    columns = first.class_columns
    return {
        "task": task.name,
        "reason": task.reason,
        "assumed": task.is_assumed,
        "tensors": {head.logits.name: list(head.logits.shape) for head in heads},
        "classes": first.class_count,
        "positions": _positions(heads),
        "class_axis": first.class_axis,
        "batch_axis": first.batch_axis,
        "columns": None if columns is None else [columns.start, columns.stop],
        "objectness": _objectness(first),
        "activation": _activation(first),
        "nothing": None if nothing is None else {"class": nothing.index, "name": nothing.name},
        "target": DEFAULT_TARGETS[task.name],
    }


def _without_words(_head: Head, _plural: bool) -> str:
    return ""


def _positions(heads: Sequence[Head]) -> list[list[Any]]:
    """The sizes of the grids, boxes, or steps of all heads."""
    return [list(head.position_sizes) for head in heads if head.other_axes]


def _objectness(head: Head) -> str | int | None:
    """The output that holds it, or its number among those of a box."""
    if head.objectness is not None:
        return str(head.objectness.output.name)
    return None if head.class_columns is None else head.class_columns.objectness


def _activation(head: Head) -> str:
    """What makes probabilities of the scores."""
    columns = head.class_columns
    is_product = head.objectness is not None or (columns is not None and columns.is_probability)
    if head.inner_logits or is_product:
        return "none: they are probabilities"
    if columns is not None and columns.logits is not None:
        return "Sigmoid"
    return head.output_activation or "none: they are raw scores"
