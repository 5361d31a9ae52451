"""The tasks of vision models."""

from __future__ import annotations

from dataclasses import dataclass

CLASSIFICATION, DETECTION, SEGMENTATION = "classification", "detection", "segmentation"
SEQUENCE, EMBEDDING, REGRESSION, IMAGE = "sequence", "embedding", "regression", "image"
TASKS = (CLASSIFICATION, DETECTION, SEGMENTATION, SEQUENCE, EMBEDDING, REGRESSION, IMAGE)


@dataclass(frozen=True)
class Task:
    """What a model is for.

    Attributes:
        name: one of `TASKS`.
        reason: what says so, as half a sentence ("the metadata says detect").
        is_assumed: whether shapes and names alone suggest it; a notice then names `--task`.
    """

    name: str
    reason: str
    is_assumed: bool = False
