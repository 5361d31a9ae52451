"""The tasks of vision models."""

from __future__ import annotations

from dataclasses import dataclass

from onnxcam.dense import DETECTION, IMAGE, SEGMENTATION, SEQUENCE

CLASSIFICATION, EMBEDDING, REGRESSION = "classification", "embedding", "regression"
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
