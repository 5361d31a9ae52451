"""Labels are matched to the classes of a model, or refused; never shifted silently."""

from __future__ import annotations

import pytest

from onnxcam.errors import SettingError
from onnxcam.image.label_fit import COCO_GAPS, fit_labels


def numbered_names(count: int) -> tuple[str, ...]:
    return tuple(f"name {number}" for number in range(count))


def test_labels_that_fit_stay() -> None:
    assert fit_labels(numbered_names(3), 3) == (numbered_names(3), None)
    assert fit_labels(("a", "", "c"), 3) == (("a", "class 1", "c"), None)
    assert fit_labels(("no", "yes"), 1) == (("no", "yes"), None)  # the two sides of one score


def test_background_before_imagenet_classes_is_added() -> None:
    names, notice = fit_labels(numbered_names(1000), 1001)
    assert (len(names), names[:2]) == (1001, ("background", "name 0"))
    assert notice is not None
    assert "class 0 is taken as the background" in notice
    assert "--labels" in notice


@pytest.mark.parametrize("classes", [1000, 90, 2])
@pytest.mark.parametrize("word", ["background", "Background", "__background__", "dummy"])
def test_background_label_without_class_is_dropped(classes: int, word: str) -> None:
    names, notice = fit_labels((word, *numbered_names(classes)), classes)
    assert names == numbered_names(classes)
    assert notice is not None
    assert "is ignored" in notice


@pytest.mark.parametrize(
    ("count", "classes", "message"),
    [
        (10, 11, r"10 labels for 11 classes; .*if class 0 is the background, name it, too"),
        (1001, 1000, r"1001 labels for 1000 classes; .*is there a heading"),
        (12, 10, r"12 labels for 10 classes; expected one name per class, class 0 first$"),
        (80, 85, "80 labels for 85 classes; .*--head yolov5"),
        (79, 91, "79 labels for 91 classes"),
        (2, 6, "2 labels for 6 classes; .*--head yolov8"),
        (1, 6, "1 label for 6 classes"),
        (3, 1, "3 labels for 1 class"),
    ],
)
def test_labels_that_do_not_fit(count: int, classes: int, message: str) -> None:
    with pytest.raises(SettingError, match=message):
        fit_labels(numbered_names(count), classes)


def test_named_imagenet_background_is_not_doubled() -> None:
    with pytest.raises(SettingError, match="1000 labels for 1001 classes"):
        fit_labels(("background", *numbered_names(999)), 1001)


@pytest.mark.parametrize("word", ["no object", "Background"])
def test_last_label_without_class_is_dropped(word: str) -> None:
    names, notice = fit_labels((*numbered_names(5), word), 5)
    assert names == numbered_names(5)
    assert f"the last label, '{word}', is ignored" in str(notice)


@pytest.mark.parametrize(
    ("nothing", "expected"),
    [
        ((0, "background"), ("background", "name 0", "name 1")),
        ((2, "no object"), ("name 0", "name 1", "no object")),
        ((0, "blank"), ("blank", "name 0", "name 1")),
        ((2, "blank"), ("name 0", "name 1", "blank")),
    ],
)
def test_class_that_stands_for_nothing_is_inserted(
    nothing: tuple[int, str], expected: tuple[str, ...]
) -> None:
    names, notice = fit_labels(numbered_names(2), 3, nothing=nothing)
    assert names == expected
    assert f"class {nothing[0]} is taken as the {nothing[1]}" in str(notice)
    assert fit_labels(numbered_names(3), 3, nothing=nothing) == (numbered_names(3), None)
    with pytest.raises(SettingError, match="2 labels for 4 classes"):
        fit_labels(numbered_names(2), 4, nothing=nothing)


@pytest.mark.parametrize("classes", [90, 91, 92])
def test_names_of_coco_are_spread_over_its_ids(classes: int) -> None:
    """Ids 12, 26, … have no name: of 91 classes person is 1, fire hydrant 11, stop sign 13."""
    coco = ("person", *(f"name {number}" for number in range(1, 80)))
    nothing = None if classes == 90 else (0, "background")
    names, notice = fit_labels(coco, classes, nothing=nothing)
    shift = 1 if classes == 90 else 0
    assert len(names) == classes
    assert (names[1 - shift], names[11 - shift], names[13 - shift]) == (
        "person",
        "name 10",
        "name 11",
    )
    assert names[90 - shift] == "name 79"
    assert [i + shift for i, name in enumerate(names) if name.startswith("class")] == [
        gap for gap in COCO_GAPS if 0 < gap < classes + shift
    ]
    assert shift or names[0] == "background"
    assert "as the names of COCO" in str(notice)
    with pytest.raises(SettingError, match="80 labels"):
        fit_labels(numbered_names(80), classes)
