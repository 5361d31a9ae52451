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

    @property
    def spec(self) -> str:
        """What means this target again, whatever the scores: "281", or "281-282"."""
        others = np.flatnonzero(np.asarray(self.weights) < 0)
        return "-".join(map(str, (self.index, *others)))

    def of(self, scores: Scores) -> Floats:
        """(N, classes) -> (N,)."""
        return np.asarray(np.sum(scores.astype(np.float64) * self.weights, axis=-1))


def ranked(spec: Spec) -> int | None:
    """The K of "topK", None for what does not need the scores."""
    found = re.fullmatch(r"top(\d{1,18})", str(spec).strip().lower())
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
    parts = str(spec).split(" - " if " - " in str(spec) else "-")
    if len(parts) == 1 or not all(parts) or _labelled(str(spec), labels) is not None:
        return _single(_index(spec, classes, labels), classes, labels)
    first, *others = dict.fromkeys(_index(part.strip(), classes, labels) for part in parts)
    if not others:
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
    index = _labelled(spec, labels) if isinstance(spec, str) else None
    if index is None and re.fullmatch(r"-?\d{1,18}", str(spec).strip()):
        index = int(str(spec).strip())
    if index is None:
        hint = "give an index, topK, or a label with --labels FILE"
        raise unknown("label", str(spec), labels or (), hint)
    if not 0 <= index < classes:  # a list of labels can be longer than the model's of classes
        raise TargetError(f"target {index}: the model has {classes} classes, 0 to {classes - 1}")
    return index


def _labelled(spec: str, labels: Sequence[str] | None) -> int | None:
    """The place of a label; upper and lower case are one where that leaves no doubt."""
    if not labels:
        return None
    if spec in labels:
        return labels.index(spec)
    folded = [each.lower() for each in labels]
    return folded.index(spec.lower()) if folded.count(spec.lower()) == 1 else None


def _name(index: int, labels: Sequence[str] | None) -> str:
    return labels[index] if labels and index < len(labels) else f"class {index}"
