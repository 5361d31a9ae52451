"""What makes probabilities of raw scores, where nothing in the model says so."""

from __future__ import annotations

from onnxcam.dense import DETECTION, SEGMENTATION, SEQUENCE
from onnxcam.heads.tasks.no_class import NoClass


def assumed_activation(task: str, classes: int, nothing: NoClass | None) -> str | None:
    """Softmax where one class holds at each position, else Sigmoid; None where scores are no classes.

    Boxes whose classes include one for no object compete; otherwise each class of a box stands for itself.
    """
    if task not in (DETECTION, SEGMENTATION, SEQUENCE):
        return None
    is_exclusive = task != DETECTION or nothing is not None
    return "Softmax" if is_exclusive and classes > 1 else "Sigmoid"


def assumed_activation_notice(output: str, activation: str) -> str:
    """What is assumed about the scores of a detector, and where that matters."""
    return (
        f"{output} ends in raw scores, and {activation} is assumed to make probabilities of them, which choose "
        "the best detections and count for --min-score; --output NAME names a tensor with probabilities"
    )
