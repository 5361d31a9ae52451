"""The probability of a target, where the model's head has one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from onnxcam.arrays import Scores
from onnxcam.specs import Score
from onnxcam.targets.target import Target

Probabilities: TypeAlias = NDArray[np.float64]


def class_probabilities(
    score: Score, explained_tensor: str, scores: Scores
) -> Probabilities | None:
    """The probabilities of the classes, (N, classes), from the values of the explained tensor, (N, classes).
    None if the head has none, or if more than Softmax or Sigmoid leads to them: they could only be guessed.
    """
    values = np.asarray(scores, np.float64)
    if not score.exact_activation:
        return None
    if explained_tensor == score.logits:
        return sigmoid(values) if score.output_activation == "Sigmoid" else softmax(values)
    is_probability = score.output_activation in ("Softmax", "Sigmoid")
    return values if is_probability and explained_tensor == score.output else None


def target_probability(
    score: Score, explained_tensor: str, scores: Scores, target: Target
) -> Probabilities | None:
    """The target's probability, (N,); that of the evidence against a class, and of the other side of a single
    logit, is 1 - p. None for a contrast, and where the head has no probabilities (see `class_probabilities`).
    """
    probabilities = class_probabilities(score, explained_tensor, scores)
    indices = np.flatnonzero(target.weights)
    if probabilities is None or len(indices) != 1:
        return None
    of_class = probabilities[:, indices[0]]
    return of_class if target.weights[indices[0]] > 0 else 1 - of_class


def sigmoid(logits: Probabilities) -> Probabilities:
    """1 / (1 + exp(-x)), without overflow."""
    return np.asarray(np.exp(-np.logaddexp(0, -logits)))


def softmax(logits: Probabilities) -> Probabilities:
    """exp(x) / sum exp(x) over the last axis, without overflow."""
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(axis=-1, keepdims=True))


def join_images(probabilities: Sequence[Probabilities | None]) -> Probabilities | None:
    """Probabilities of several images in one array, NaN where there is none; None if no image has one."""
    if all(values is None for values in probabilities):
        return None
    return np.concatenate([np.full(1, np.nan) if p is None else p for p in probabilities])


def format_probability(probability: float | None) -> str:
    """What is printed after a score: " (p = 0.874)", or nothing without a probability."""
    has_one = probability is not None and np.isfinite(probability)
    return f" (p = {probability:.3g})" if has_one else ""


def format_score(score: float | None, probability: float | None, digits: int = 3) -> str:
    """What is printed of a score, after a space: " 12.3 (p = 0.874)", or nothing where there is no target."""
    if score is None or not np.isfinite(score):
        return ""
    return f" {score:.{digits}g}{format_probability(probability)}"
