"""The grammar of targets: a class by rank, index or label, the evidence against it, or a contrast of classes.

`top1` … `topK` · `281` or `class:281` · a label, or `label:7` if labels are numbers · `281-282-285` · `not
cat`. An exact label has precedence over any other meaning of its text, except a rank.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from onnxcam.arrays import Floats
from onnxcam.errors import TargetError, unknown
from onnxcam.targets.target import Target

DEFAULT_TARGET = "top1"
Spec: TypeAlias = int | str  # "top1", 281, "281", "tabby cat", "281-282", "not 281"
Labels: TypeAlias = Sequence[str] | None
NOT = re.compile(r"not\s+(?P<rest>.*)", re.IGNORECASE | re.DOTALL)
RANK = re.compile(r"top(\d{1,18})", re.IGNORECASE)
NUMBER = re.compile(r"-?\d{1,18}")
BY_INDEX, BY_LABEL = "class:", "label:"
BY_VALUE = "value:"  # of a regression, whose numbers are no classes
MAX_LISTED = 5  # the number of classes with the same label that a message lists


@dataclass(frozen=True)
class Side:
    """A class, or, with the sign -1, the evidence against it."""

    index: int
    sign: int = 1


def parse_rank(spec: Spec) -> int | None:
    """The K of "topK" and "not topK"; None for a target that does not depend on the scores."""
    text = str(spec).strip()
    rank = RANK.fullmatch(_after_not(text) or text)
    return int(rank[1]) if rank else None


def parse_target(
    spec: Spec, classes: int, labels: Labels, scores: Floats | None, middle: float = 0.0
) -> Target:
    """The target of a specification; `scores` (classes,) are needed only for topK.

    A single logit with two labels has two classes: the score of the second label is the logit, that of the
    first label is its negative. The second label ranks first if the logit is above `middle`.

    Raises TargetError for a class that does not exist, UnknownNameError for an unknown label.
    """
    rank, negated_text = parse_rank(spec), _after_not(str(spec))
    if rank is not None:
        side = _side_of_rank(spec, rank, classes, labels, scores, middle)
        return _single_target(_opposite(side) if negated_text else side, classes, labels)
    words = str(spec).split(" - " if " - " in str(spec) else "-")
    if len(words) == 1 or not all(words) or _side_of_label(str(spec), classes, labels) is not None:
        return _single_target(_parse_side(spec, classes, labels), classes, labels)
    if negated_text and _side_of_label(negated_text, classes, labels) is not None:
        return _single_target(_parse_side(spec, classes, labels), classes, labels)
    sides = dict.fromkeys(_parse_side(word.strip(), classes, labels) for word in words)
    return _contrast_target(spec, [*sides], classes, labels)


def single_logit_notice(classes: int, labels: Labels) -> str | None:
    """What is assumed about a model with a single logit; None for any other."""
    if classes != 1:
        return None
    if labels and len(labels) == 2:
        return (
            f"the model has one logit for two labels: the logit is taken as the score of {labels[1]!r}, and "
            f"its negative as that of {labels[0]!r}; if that is wrong, swap the labels (--labels)"
        )
    return (
        "the model has a single score, and the evidence for it is explained; --target 'not 0' explains the "
        "evidence against it"
    )


def shared_label_notice(target: Target, labels: Labels) -> str | None:
    """What other classes have the label of the target's class; None if there are none."""
    if not labels or target.index >= len(labels) or labels[target.index] not in target.name:
        return None
    label = labels[target.index]
    others = [i for i, name in enumerate(labels) if name == label and i != target.index]
    if not others:
        return None
    listed = ", ".join(map(str, others[:MAX_LISTED])) + (", …" if others[MAX_LISTED:] else "")
    return (
        f"{1 + len(others)} classes are named {label!r}: class {target.index} is explained, not {listed}; "
        "--target NUMBER chooses one of them"
    )


def _side_of_rank(
    spec: Spec, rank: int, classes: int, labels: Labels, scores: Floats | None, middle: float
) -> Side:
    sides = 2 if _has_two_sides(classes, labels) else classes
    if scores is None or not 1 <= rank <= sides:
        raise TargetError(
            f"target {spec!r}: the model has {sides} classes; expected top1 to top{sides}"
        )
    if sides != classes:
        first = Side(0, 1 if scores[0] > middle else -1)
        return first if rank == 1 else _opposite(first)
    return Side(int(np.argsort(-scores, kind="stable")[rank - 1]))


def _single_target(side: Side, classes: int, labels: Labels) -> Target:
    weights = np.zeros(classes)
    weights[side.index] = side.sign
    return Target(
        _side_name(side, classes, labels), weights, *_index_and_spec([side], classes, labels)
    )


def _contrast_target(spec: Spec, sides: list[Side], classes: int, labels: Labels) -> Target:
    first, *contrasted = sides
    if not any(side.index != first.index for side in contrasted):
        raise TargetError(f"target {spec!r}: a class cannot be contrasted with itself")
    weights = np.zeros(classes)
    weights[first.index] = 1.0
    weights[[side.index for side in contrasted]] = -1.0 / len(contrasted)
    if any(side.sign < 0 for side in sides):
        raise TargetError(
            f"target {spec!r}: 'not' takes a single class; swap the sides of the contrast instead"
        )
    names = [_side_name(side, classes, labels) for side in sides]
    name = f"{names[0]} - {', '.join(names[1:])}"
    return Target(name, weights, *_index_and_spec(sides, classes, labels))


def _index_and_spec(sides: list[Side], classes: int, labels: Labels) -> tuple[int, str]:
    """The first class, and a specification of these sides, with `class:` if a label would have precedence."""
    texts = [_sign_word(side) + str(side.index) for side in sides]
    spec = "-".join(texts)
    is_label = len(sides) > 1 and any(label.lower() == spec for label in labels or ())
    if is_label or any(
        _is_ambiguous(text, side, classes, labels) for text, side in zip(texts, sides, strict=True)
    ):
        spec = "-".join(f"{_sign_word(side)}{BY_INDEX}{side.index}" for side in sides)
    return sides[0].index, spec


def _sign_word(side: Side) -> str:
    return "not " if side.sign < 0 else ""


def _is_ambiguous(text: str, side: Side, classes: int, labels: Labels) -> bool:
    """Whether a number would be read as a label, of a different class or of several classes."""
    try:
        return _parse_side(text, classes, labels) != side
    except TargetError:
        return True


def _parse_side(spec: Spec, classes: int, labels: Labels) -> Side:
    """One class, or the evidence against it."""
    text = str(spec).strip()
    side = _side_of_label(spec, classes, labels) if isinstance(spec, str) else None
    if side is None and (rest := _after_not(text)):
        return _opposite(_parse_side(rest, classes, labels))
    if side is None and text.startswith(BY_LABEL):
        side = _side_of_label(text.removeprefix(BY_LABEL), classes, labels)
    number = text.removeprefix(BY_VALUE).removeprefix(BY_INDEX).strip()
    if side is None and NUMBER.fullmatch(number):
        side = Side(int(number))
    if side is None:
        hint = "use an index, or pass labels with --labels FILE"
        raise unknown("label", str(spec), labels or (), hint)
    if 0 <= side.index < classes:  # there may be more labels than classes
        return side
    if classes == 1:
        raise TargetError(f"target {side.index}: the model has one score; expected 0 or 'not 0'")
    raise TargetError(
        f"target {side.index}: the model has {classes} classes; expected 0 to {classes - 1}"
    )


def _opposite(side: Side) -> Side:
    return Side(side.index, -side.sign)


def _after_not(text: str) -> str | None:
    """The text after "not"; None without it."""
    negated = NOT.fullmatch(text.strip())
    return negated["rest"] if negated else None


def _has_two_sides(classes: int, labels: Labels) -> bool:
    return classes == 1 and labels is not None and len(labels) == 2


def _side_of_label(spec: str, classes: int, labels: Labels) -> Side | None:
    """The class of a label; case is ignored if the result is unique."""
    index = _label_index(spec, labels)
    if index is None or not _has_two_sides(classes, labels):
        return None if index is None else Side(index)
    return Side(0, 1 if index else -1)


def _label_index(spec: str, labels: Labels) -> int | None:
    if not labels:
        return None
    indices = [index for index, label in enumerate(labels) if label == spec]
    if len(indices) > 1:
        rest = ", …" if len(indices) > MAX_LISTED else ""
        listed = ", ".join(map(str, indices[:MAX_LISTED])) + rest
        raise TargetError(
            f"target {spec!r}: {len(indices)} classes have this label ({listed}); use the index"
        )
    lowercase = [label.lower() for label in labels]
    if indices or lowercase.count(spec.lower()) != 1:
        return indices[0] if indices else None
    return lowercase.index(spec.lower())


def _side_name(side: Side, classes: int, labels: Labels) -> str:
    if _has_two_sides(classes, labels):
        return str(labels[side.sign > 0]) if labels else ""
    named = labels and side.index < len(labels) and labels[side.index].strip()
    name = labels[side.index] if labels and named else f"class {side.index}"
    return name if side.sign > 0 else f"not {name}"
