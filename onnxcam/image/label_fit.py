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
BLANK = {"", "blank", "<blank>", "[blank]", "_blank_", "<blk>", "[blk]", "<ctc>", "[ctc]"}
DASH = "-"  # the blank, if it is the first character
IMAGENET = 1000  # classes; TensorFlow's models have a background class before them
COCO = 80  # names, for ids from 1 to 90 with gaps
COCO_GAPS = (0, 12, 26, 29, 30, 45, 66, 68, 69, 71, 83, 91)
FIRST_OF_COCO = "person"
BOX_NUMBERS = {4: "yolov8", 5: "yolov5"}  # numbers before the classes, and the head that has them


def named_nothing(names: Sequence[str], *, is_text: bool = False) -> int | None:
    """The first or last class, if its label says that it stands for nothing: for the background, or with
    `is_text` for the blank between characters.
    """
    if is_text and names and names[0].strip() == DASH:
        return 0
    words = BLANK if is_text else BACKGROUND
    ends = (0, len(names) - 1) if names else ()
    return next((index for index in ends if names[index].strip().casefold() in words), None)


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
        lambda: _spread_coco(names, classes, nothing),
        lambda: _insert(names, classes, nothing),
        lambda: _drop(names, classes),
    )
    return next((fitted for way in ways if (fitted := way()) is not None), None)


def _insert(names: Names, classes: int, nothing: NoClass | None) -> tuple[Names, str] | None:
    """One label less than classes: the one that stands for nothing has none."""
    if nothing is None and len(names) == IMAGENET:
        nothing = 0, "background"
    if len(names) != classes - 1 or nothing is None or named_nothing(names) is not None:
        return None
    index, name = nothing
    first = ", and the first label as class 1" if index == 0 else ""
    return (*names[:index], name, *names[index:]), f"class {index} is taken as the {name}{first}"


def _drop(names: Names, classes: int) -> tuple[Names, str] | None:
    """One label more than classes: a background that the model does not have."""
    if len(names) != classes + 1 or classes == 1:
        return None
    index = named_nothing(names)
    if index is None:
        return None
    place = "last" if index else "first"
    return (*names[:index], *names[index + 1 :]), f"the {place} label, {names[index]!r}, is ignored"


def _spread_coco(names: Names, classes: int, nothing: NoClass | None) -> tuple[Names, str] | None:
    """The 80 names of COCO for classes that are its ids, which have gaps: from 0, or, 90 of them, from 1."""
    first = 1 if classes == COCO_GAPS[-1] - 1 else 0
    has_ids = classes in range(COCO_GAPS[-1] - 1, COCO_GAPS[-1] + 2)
    if len(names) != COCO or not has_ids or names[0].casefold() != FIRST_OF_COCO:
        return None
    remaining = iter(names)
    spread = [
        "" if index in COCO_GAPS else next(remaining) for index in range(first, first + classes)
    ]
    if nothing is not None:
        spread[nothing[0]] = spread[nothing[0]] or nothing[1]
    return tuple(
        spread
    ), f"they are taken as the names of COCO, and class {1 - first} as {names[0]!r}"


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
