"""What is explained: a class by rank, index or label, or the contrast of classes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from onnxcam.arrays import Floats, Scores
from onnxcam.errors import TargetError, unknown

Spec: TypeAlias = int | str  # "top1", 281, "281", "tabby cat", "281-282"


@dataclass(frozen=True)
class Target:
    """A linear functional of the class scores: `weights` (classes,), and what it is called."""

    name: str
    weights: Floats
    index: int  # the class, or the first of a contrast

    def of(self, scores: Scores) -> Floats:
        """(N, classes) -> (N,)."""
        return scores.astype(np.float64) @ self.weights


def ranked(spec: Spec) -> int | None:
    """The K of "topK", None for what does not need the scores."""
    found = re.fullmatch(r"top(\d+)", str(spec).strip().lower())
    return int(found[1]) if found else None


def target(spec: Spec, classes: int, labels: Sequence[str] | None, scores: Floats | None) -> Target:
    """The target that a specification means; `scores` (classes,) are needed for topK only.

    Raises TargetError for a class that is not there, UnknownNameError for a label that is not.
    """
    rank = ranked(spec)
    if rank is not None:
        if scores is None or not 1 <= rank <= classes:
            raise TargetError(
                f"target {spec!r}: the model has {classes} classes, top1 to top{classes}"
            )
        return _single(int(np.argsort(-scores, kind="stable")[rank - 1]), classes, labels)
    if isinstance(spec, (int, np.integer)) or (labels and spec in labels):
        return _single(_index(spec, classes, labels), classes, labels)
    parts = str(spec).split("-")
    if len(parts) == 1 or not all(parts):
        return _single(_index(spec, classes, labels), classes, labels)
    first, *others = (_index(part.strip(), classes, labels) for part in parts)
    if first in others:
        raise TargetError(f"target {spec!r}: a class cannot be contrasted with itself")
    weights = np.zeros(classes)
    weights[first] = 1.0
    weights[others] = -1.0 / len(others)
    name = f"{_name(first, labels)} - {', '.join(_name(each, labels) for each in others)}"
    return Target(name, weights, first)


def _single(index: int, classes: int, labels: Sequence[str] | None) -> Target:
    weights = np.zeros(classes)
    weights[index] = 1.0
    return Target(_name(index, labels), weights, index)


def _index(spec: Spec, classes: int, labels: Sequence[str] | None) -> int:
    if labels and isinstance(spec, str):
        if spec in labels:
            return labels.index(spec)
        folded = [each.lower() for each in labels]
        if folded.count(spec.lower()) == 1:
            return folded.index(spec.lower())
    if not re.fullmatch(r"-?\d+", str(spec).strip()):
        hint = "give an index, topK, or a label with --labels FILE"
        raise unknown("label", str(spec), labels or (), hint)
    index = int(spec)
    if not 0 <= index < classes:
        raise TargetError(f"target {index}: the model has {classes} classes, 0 to {classes - 1}")
    return index


def _name(index: int, labels: Sequence[str] | None) -> str:
    return labels[index] if labels and index < len(labels) else f"class {index}"
