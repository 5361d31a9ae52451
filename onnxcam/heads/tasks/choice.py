"""Which task a model is for: what its metadata says, or else what its graph and its outputs show."""

from __future__ import annotations

from collections.abc import Sequence

from onnxcam.dense import DETECTION, SEQUENCE
from onnxcam.heads.head import Head
from onnxcam.heads.tasks.detection import detection_reason
from onnxcam.heads.tasks.maps import map_task
from onnxcam.heads.tasks.metadata import task_in_metadata
from onnxcam.heads.tasks.sequence import decoder_reason, sequence_reason
from onnxcam.heads.tasks.task import CLASSIFICATION, Task
from onnxcam.heads.tasks.vectors import feature_task, vector_task
from onnxcam.model.model import Model
from onnxcam.spatial.axes import holds_cells


def task_of(model: Model, heads: Sequence[Head]) -> Task:
    """The task of a model; `heads` are those that are explained together, the chosen one first."""
    return task_in_metadata(model.metadata) or _task_of_heads(model, heads)


def _task_of_heads(model: Model, heads: Sequence[Head]) -> Task:
    first = heads[0]
    if not first.other_axes:
        return vector_task(first) or _classification(first)
    if features := feature_task(first):
        return features
    if reason := sequence_reason(first) or decoder_reason(model, first):
        return Task(SEQUENCE, reason)
    if reason := detection_reason(model, heads):
        return Task(DETECTION, reason)
    return map_task(model, first) or _task_of_positions(first)


def _classification(head: Head) -> Task:
    return Task(CLASSIFICATION, f"{head.output.name} has one score per class")


def _task_of_positions(head: Head) -> Task:
    """Of positions that are not the pixels of the image: boxes rather than steps."""
    axes = [head.axes[axis] for axis in head.other_axes] if head.axes else []
    what = "cells of a coarser grid" if any(map(holds_cells, axes)) else "positions of unknown kind"
    return Task(DETECTION, f"{head.output.name} scores {what}", is_assumed=True)
