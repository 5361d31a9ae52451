"""Match labels to the classes of a model. Where a class stands for nothing, labels may leave it out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from onnxcam.errors import SettingError

Names: TypeAlias = tuple[str, ...]
NoClass: TypeAlias = tuple[int, str]  # the class that stands for nothing, and what it is called

BACKGROUND = {
    *("background", "__background__", "_background_", "dummy", "bg", "unlabeled"),
    *("no object", "no-object", "no_object", "no obj", "nothing"),
}
BLANK = {"blank", "<blank>", "[blank]", "_blank_", "<blk>", "[blk]", "<ctc>", "[ctc]"}
IMAGENET = 1000  # classes; TensorFlow's models have a background class before them
COCO = 80  # names, for ids from 1 to 90 with gaps
COCO_GAPS = (0, 12, 26, 29, 30, 45, 66, 68, 69, 71, 83, 91)
FIRST_OF_COCO = "person"
BOX_NUMBERS = {4: "yolov8", 5: "yolov5"}  # numbers before the classes, and the head that has them


def fit_labels(
    names: Names, classes: int, prefix: str = "", nothing: NoClass | None = None
) -> tuple[Names, str | None]:
    """One name for each of the classes, and a notice about how they were matched.

    A class without a name is called by its number. Labels may leave out `nothing`, or name a background that
    the model does not have. SettingError for any other number of labels, except for the two sides of a score.
    """
    notice = None
    if len(names) != classes and (len(names), classes) != (2, 1):
        fitted = _fit_other_number(names, classes, nothing)
        if fitted is None:
            labels = f"{len(names)} label{'s' if len(names) != 1 else ''}"
            targets = f"{classes} class{'es' if classes > 1 else ''}"
            raise SettingError(f"{prefix}{labels} for {targets}{_hint(len(names) - classes)}")
        matched, how = fitted
        notice = (
            f"{len(names)} labels for {classes} classes: {how}; if that is wrong, pass {classes} names with "
            "--labels"
        )
        names = matched
    return tuple(name or f"class {index}" for index, name in enumerate(names)), notice


def _fit_other_number(
    names: Names, classes: int, nothing: NoClass | None
) -> tuple[Names, str] | None:
    """Names for all classes, and how they were matched; None if they cannot be."""
    ways: Sequence[Callable[[], tuple[Names, str] | None]] = (
        lambda: _spread_coco(names, classes),
        lambda: _insert(names, classes, nothing),
        lambda: _drop(names, classes),
    )
    return next((fitted for way in ways if (fitted := way()) is not None), None)


def _insert(names: Names, classes: int, nothing: NoClass | None) -> tuple[Names, str] | None:
    """One label less than classes: the one that stands for nothing has none."""
    if nothing is None and len(names) == IMAGENET:
        nothing = 0, "background"
    if len(names) != classes - 1 or nothing is None or _is_background(names[0]):
        return None
    index, name = nothing
    first = ", and the first label as class 1" if index == 0 else ""
    return (*names[:index], name, *names[index:]), f"class {index} is taken as the {name}{first}"


def _drop(names: Names, classes: int) -> tuple[Names, str] | None:
    """One label more than classes: a background that the model does not have."""
    if len(names) != classes + 1 or classes == 1:
        return None
    if _is_background(names[0]):
        return names[1:], f"the first label, {names[0]!r}, is ignored"
    if _is_background(names[-1]):
        return names[:-1], f"the last label, {names[-1]!r}, is ignored"
    return None


def _spread_coco(names: Names, classes: int) -> tuple[Names, str] | None:
    """The 80 names of COCO for classes that are its ids, which have gaps: from 0, or, 90 of them, from 1."""
    first = 1 if classes == COCO_GAPS[-1] - 1 else 0
    has_ids = classes in range(COCO_GAPS[-1] - 1, COCO_GAPS[-1] + 2)
    if len(names) != COCO or not has_ids or names[0].casefold() != FIRST_OF_COCO:
        return None
    remaining = iter(names)
    spread = tuple(
        "" if index in COCO_GAPS else next(remaining) for index in range(first, first + classes)
    )
    return spread, f"they are taken as the names of COCO, and class {1 - first} as {names[0]!r}"


def _is_background(name: str) -> bool:
    return name.strip().casefold() in BACKGROUND


def _hint(surplus: int) -> str:
    expected = "; expected one name per class, class 0 first"
    if surplus == 1:
        return f"{expected} (is there a heading, or do the indices begin at 1?)"
    if surplus == -1:
        return f"{expected} (if class 0 is the background, name it, too)"
    head = BOX_NUMBERS.get(-surplus)
    if head is None:
        return expected
    return f"{expected} (if the first {-surplus} numbers are those of a box, --head {head} says so)"
