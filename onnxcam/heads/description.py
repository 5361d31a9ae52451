"""What the outputs of a model are taken for: the task, the classes, where their scores are, and the batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from onnxcam.dense import DETECTION, IMAGE, NO_CHOICE, SEGMENTATION, SEQUENCE, HeadChoice
from onnxcam.heads.dense_score import describe_numbers, explained_heads
from onnxcam.heads.head import Head
from onnxcam.heads.tasks.activation import assumed_activation
from onnxcam.heads.tasks.choice import task_of
from onnxcam.heads.tasks.no_class import class_of_nothing
from onnxcam.heads.tasks.task import CLASSIFICATION, EMBEDDING, REGRESSION, Task
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
OTHER_TARGETS = {  # how a user of Python or the command chooses what else is explained
    DETECTION: "--target CLASS@box:2 or CLASS@box:x0,y0,x1,y1 chooses another",
    SEGMENTATION: (
        "--target CLASS@all, CLASS@pixel:x,y, CLASS@box:x0,y0,x1,y1 or CLASS@mask:FILE chooses others"
    ),
    SEQUENCE: "--target CHARACTER explains the steps that read it, CHARACTER@step:K one step",
    IMAGE: "--target CHANNEL@pixel:x,y, CHANNEL@box:x0,y0,x1,y1 or CHANNEL@mask:FILE chooses a part",
}


def choose_task(model: Model, heads: Sequence[Head], choice: HeadChoice = NO_CHOICE) -> Task:
    """The task that the user names, or else that of the model."""
    return Task(choice.task, "you say so") if choice.task else task_of(model, heads)


def describe_default(heads: Sequence[Head], task: Task) -> str:
    """What the outputs with positions hold, what is explained by default, and OTHER_TARGETS, as a predicate of
    their names.
    """
    name = task.name if task.name in OTHER_TARGETS else DETECTION
    return f"{_describe_positions(heads, name)} is explained; {OTHER_TARGETS[name]}"


def _describe_positions(heads: Sequence[Head], task: str) -> str:
    head, plural = heads[0], len(heads) > 1
    what = "score" if plural else "scores"
    if task == SEQUENCE:
        return f"{what} {head.class_count} characters at each step: the decoded text"
    if task == IMAGE:
        return f"{'hold' if plural else 'holds'} an image: the mean of a channel"
    if task == SEGMENTATION:
        return f"{what} each pixel: the mean of a class over the pixels where it is best"
    numbers = f"{what} the cells of a grid: " if head.is_map else describe_numbers(heads)
    return f"{numbers}the best box{'' if head.class_count == 1 else ' of a class'}"


def describe_outputs(
    model: Model, output: str | None = None, choice: HeadChoice = NO_CHOICE
) -> dict[str, Any]:
    """What the explained outputs are taken for, as plain data: `task` and `reason`, whether that is `assumed`,
    the `tensors` with the scores, the number of `classes` and of scored positions (`position_counts`), the
    `class_axis` and the `batch_axis` of the tensors, the `columns` that hold the classes if others do not, the
    `objectness`, the `activation` after the scores, the class that stands for `nothing`, and the default
    `target`. `choice` is what the user says about them.

    Raises what `find_score` raises.
    """
    named = choice.scores or output
    model, heads = explained_heads(model, named, _without_words, choice.class_axis)
    first, task = heads[0], choose_task(model, heads, choice)
    nothing = class_of_nothing(first, task.name, metadata_labels(model.metadata))
    columns = first.class_columns
    return {
        "task": task.name,
        "reason": task.reason,
        "assumed": task.is_assumed,
        "tensors": {head.logits.name: list(head.logits.shape) for head in heads},
        "classes": first.class_count,
        "position_counts": _positions(heads),
        "class_axis": first.class_axis,
        "batch_axis": first.batch_axis,
        "columns": None if columns is None else [columns.start, columns.stop],
        "objectness": choice.objectness or _objectness(first),
        "activation": _activation(first, assumed_activation(task.name, first.class_count, nothing)),
        "nothing": None if nothing is None else {"class": nothing.index, "name": nothing.name},
        "target": DEFAULT_TARGETS[task.name],
    }


def _without_words(_: Sequence[Head]) -> str:
    return ""


def _positions(heads: Sequence[Head]) -> list[list[Any]]:
    """The sizes of the grids, boxes, or steps of all heads."""
    return [list(head.position_sizes) for head in heads if head.other_axes]


def _objectness(head: Head) -> str | int | None:
    """The output that holds it, or its number among those of a box."""
    if head.objectness is not None:
        return str(head.objectness.output.name)
    return None if head.class_columns is None else head.class_columns.objectness


def _activation(head: Head, assumed: str | None) -> str:
    """What makes probabilities of the scores; `assumed` if nothing says so."""
    columns = head.class_columns
    is_product = head.objectness is not None or (columns is not None and columns.is_probability)
    if head.inner_logits or is_product:
        return "none: they are probabilities"
    if columns is not None and (columns.logits is not None or columns.are_logits):
        return "Sigmoid"
    raw = f"{assumed}, which is assumed" if assumed else "none: they are raw scores"
    return head.output_activation or raw
