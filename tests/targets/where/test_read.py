"""Targets WHAT@WHERE of models with scores at positions, on views that are made by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from onnxcam.dense import DETECTION, IMAGE, SEGMENTATION, SEQUENCE, Dense
from onnxcam.errors import OnnxcamError, PlaceError, TargetError
from onnxcam.heads.boxes.suppression import best_detections
from onnxcam.targets.where import DenseView
from onnxcam.targets.where.read import files_of, list_targets, read_target, split_place

LABELS = "cat", "dog", "e-mail"
# Two cats whose boxes overlap, a dog far away, and an e-mail around everything.
BOXES = np.array([[0, 0, 10, 10], [0, 0, 10, 9], [30, 30, 40, 50], [0, 0, 64, 64]], float)
SCORES = np.array([[0.9, 0.8, 0.1, 0.0], [0.2, 0.1, 0.7, 0.3], [0.0, 0.0, 0.05, 0.6]])


def suppress(boxes: Any, scores: Any) -> Any:
    return best_detections(boxes, scores, 100, -np.inf)


def detector(**changes: Any) -> DenseView:
    dense = Dense(DETECTION, 3, is_probability=True, **changes.pop("dense", {}))
    settings = {"boxes": BOXES, "labels": LABELS, "suppress": suppress, **changes}
    return DenseView(dense, SCORES, SCORES, (0, 0, 64, 64), **settings)


def segmenter(background: int | None = None, scores: Any = None) -> DenseView:
    """4 x 4 pixels over an image of 40 x 40: class 0 left, class 1 in the upper right, class 2 elsewhere."""
    winner = np.array([[0, 0, 1, 1], [0, 0, 1, 1], [0, 0, 2, 2], [0, 0, 0, 2]]).ravel()
    values = np.eye(3)[winner].T * 2.0 if scores is None else scores
    dense = Dense(SEGMENTATION, len(values), grid=(4, 4), background=background)
    return DenseView(dense, values, values, (0, 0, 40, 40), grid=(4, 4))


def text(blank: int | None = 0) -> DenseView:
    """The best path is blank, 1, 1, blank, 1, 2: the text "aab"."""
    path = [0, 1, 1, 0, 1, 2]
    values = np.eye(3)[path].T * 5.0 + 0.1
    dense = Dense(SEQUENCE, 3, blank=blank, where_classes=3)
    return DenseView(dense, values, values, (0, 0, 60, 10), labels=("-", "a", "b"))


def positions(target: Any) -> list[int]:
    return np.flatnonzero(target.where.any(axis=0)).tolist()


@pytest.mark.parametrize(
    ("spec", "index", "position", "again"),
    [
        ("top1", 0, 0, "0"),
        ("top2", 1, 2, "1"),
        ("cat", 0, 0, "0"),
        ("dog@box:1", 1, 2, "1@box:1"),
        ("e-mail", 2, 3, "2"),  # an exact label is no contrast
        ("cat@box:2", 0, 2, "0@box:2"),  # the second cat overlaps the first, so it is the same
        ("top1@box:2", 1, 2, "1@box:1"),  # the second detection of all is the best dog
        ("@box:3", 2, 3, "2@box:1"),
        ("top2@box:1", 1, 0, "1@box:3"),  # the second class of the first detection
        ("dog@box:0,0,11,11", 1, 0, "1@box:0,0,11,11"),
        ("cat@pixel:5,5", 0, 0, "0@pixel:5,5"),
        ("dog@pixel:5,5", 1, 3, "1@pixel:5,5"),
        ("not dog", 1, 2, "not 1"),
        ("dog@best", 1, 2, "1@best"),
        ("dog@all", 1, 2, "1@all"),
    ],
)
def test_detection_is_selected(spec: str, index: int, position: int, again: str) -> None:
    target = read_target(spec, detector())
    assert (target.index, positions(target), target.spec) == (index, [position], again)
    assert target.where is not None
    assert target.where.sum() == pytest.approx(1)
    repeated = read_target(target.spec, detector())
    assert positions(repeated) == [position]
    np.testing.assert_array_equal(repeated.weights, target.weights)


def test_marked_box_and_probability_are_those_of_the_detection() -> None:
    target = read_target("dog", detector())
    assert target.mark.box == (30, 30, 40, 50)
    assert target.probability == pytest.approx(0.7)
    assert read_target("not dog", detector()).probability == pytest.approx(0.3)
    assert read_target("dog-cat", detector()).probability is None


def test_background_is_never_the_best_class() -> None:
    view = detector(dense={"background": 0})
    assert read_target("top1", view).index == 1
    assert list_targets(view, 0.25, 20) == ["dog@box:1", "e-mail@box:1"]
    assert read_target("cat", view).index == 0  # but it can be named


def test_unknown_boxes_are_numbered_by_their_scores() -> None:
    view = detector(boxes=None)
    assert positions(read_target("cat@box:2", view)) == [1]
    assert "may show the same object" in read_target("cat@box:2", view).notices[0]
    with pytest.raises(TargetError, match=r"could not be decoded.*--head boxes="):
        read_target("cat@pixel:1,1", view)


def test_low_overlap_is_noticed() -> None:
    assert not read_target("cat@box:0,0,10,11", detector()).notices
    (notice,) = read_target("dog@box:30,30,40,35", detector()).notices
    assert "is 30,30,40,50, and only 25% of both is common" in notice


@pytest.mark.parametrize(
    ("spec", "error", "message"),
    [
        ("cat@box:9", PlaceError, "a number from 1 to 3"),
        ("cat@box:0", PlaceError, "a number from 1 to 3"),
        ("cat@box:90,90,99,99", PlaceError, "no box overlaps"),
        ("cat@box:9,9,1,1", TargetError, "left < right"),
        ("cat@pixel:-5,2", PlaceError, "no box contains"),
        ("cat@bix:2", TargetError, r"expected one of @best, @position:117, @box:2"),
        ("cat@segment", TargetError, "for the task detection"),
        ("cow", OnnxcamError, "no label 'cow'"),
        ("all", TargetError, "stands for several targets"),
    ],
)
def test_place_that_does_not_exist_is_refused(
    spec: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        read_target(spec, detector())


def test_all_detections_are_listed_best_first() -> None:
    assert list_targets(detector(), 0.25, 20) == ["cat@box:1", "dog@box:1", "e-mail@box:1"]
    assert list_targets(detector(), 0.65, 20) == ["cat@box:1", "dog@box:1"]
    assert list_targets(detector(), 0.25, 1) == ["cat@box:1"]


def test_labels_that_are_not_unique_are_listed_by_number() -> None:
    view = detector(labels=("cat", "cat", "3"))
    assert list_targets(view, 0.25, 20) == ["class:0@box:1", "class:1@box:1", "3@box:1"]
    assert [read_target(spec, view).index for spec in list_targets(view, 0.25, 20)] == [0, 1, 2]


@pytest.mark.parametrize(
    ("spec", "background", "index", "chosen"),
    [
        ("top1", None, 0, [0, 1, 4, 5, 8, 9, 12, 13, 14]),
        ("top1", 0, 1, [2, 3, 6, 7]),
        ("2", None, 2, [10, 11, 15]),
        ("1@segment", 1, 1, [2, 3, 6, 7]),
        ("2@pixel:35,39", None, 2, [15]),
        ("top1@pixel:35,5", None, 1, [3]),
        ("0@box:0,0,20,10", None, 0, [0, 1]),
        ("1@all", None, 1, list(range(16))),
    ],
)
def test_pixels_are_selected(
    spec: str, background: int | None, index: int, chosen: list[int]
) -> None:
    target = read_target(spec, segmenter(background))
    assert (target.index, positions(target)) == (index, chosen)
    assert target.where is not None
    np.testing.assert_allclose(target.where[0][chosen], 1 / len(chosen))


def test_parts_of_pixels_count_partly() -> None:
    target = read_target("0@box:5,0,20,10", segmenter())
    assert target.where is not None
    np.testing.assert_allclose(target.where[0][:2], [1 / 3, 2 / 3])


def test_class_that_wins_nowhere_is_explained_everywhere_with_a_notice() -> None:
    view = segmenter(scores=np.array([np.ones(16), np.zeros(16)]))
    target = read_target("1", view)
    assert positions(target) == list(range(16))
    assert "at no pixel" in target.notices[0]


@pytest.mark.parametrize(("spec", "chosen"), [("0", [0, 1]), ("not 0", list(range(2, 16)))])
def test_single_class_has_two_sides(spec: str, chosen: list[int]) -> None:
    scores = np.full((1, 16), -1.0)
    scores[0, :2] = 2.0
    assert positions(read_target(spec, segmenter(scores=scores))) == chosen


def test_pixel_outside_of_the_part_that_the_model_saw_is_refused() -> None:
    with pytest.raises(PlaceError, match="the part 0,0,40,40 of the image"):
        read_target("0@pixel:40,3", segmenter())


def test_regions_are_listed_by_area() -> None:
    assert list_targets(segmenter(), 0.0, 20) == [f"class:{k}@segment" for k in (0, 1, 2)]
    assert list_targets(segmenter(0), 0.0, 20) == [f"class:{k}@segment" for k in (1, 2)]


def test_text_is_decoded_and_explained_at_all_of_its_steps() -> None:
    target = read_target("top1", text())
    assert (target.name, positions(target)) == ("aab", [1, 2, 4, 5])
    assert target.where is not None
    np.testing.assert_array_equal(target.where.argmax(axis=0)[[1, 2, 4, 5]], [1, 1, 1, 2])
    np.testing.assert_array_equal(target.weights, np.ones(3))


@pytest.mark.parametrize(
    ("spec", "index", "chosen"),
    [("a", 1, [1, 2, 4]), ("b@step:5", 2, [5]), ("top1@step:4", 1, [4]), ("b@step:0", 2, [0])],
)
def test_steps_are_selected(spec: str, index: int, chosen: list[int]) -> None:
    target = read_target(spec, text())
    assert (target.index, positions(target)) == (index, chosen)


def test_characters_are_listed_in_their_order() -> None:
    assert list_targets(text(), 0.0, 20) == ["a@step:1", "a@step:4", "b@step:5"]


def test_text_without_characters_and_steps_beyond_the_last_are_refused() -> None:
    blank = np.array([[5.0] * 3, [0.0] * 3])
    view = DenseView(Dense(SEQUENCE, 2, blank=0, where_classes=2), blank, blank, (0, 0, 9, 9))
    with pytest.raises(PlaceError, match="read no character"):
        read_target("top1", view)
    with pytest.raises(PlaceError, match="a number from 0 to 5"):
        read_target("a@step:6", text())


def test_image_is_explained_everywhere_by_default() -> None:
    values = np.arange(4.0)[None]
    view = DenseView(Dense(IMAGE, 1, grid=(2, 2)), values, values, (0, 0, 2, 2), grid=(2, 2))
    assert positions(read_target("top1", view)) == [0, 1, 2, 3]
    assert positions(read_target("0@pixel:1,0", view)) == [1]


@pytest.mark.parametrize(
    ("spec", "labels", "expected"),
    [
        ("cat", None, ("cat", None)),
        ("cat@box:2", None, ("cat", "box:2")),
        ("a@b@box:2", None, ("a@b", "box:2")),
        ("a@b", ("a@b",), ("a@b", None)),
        ("cat@mask:x@2.png", None, ("cat", "mask:x@2.png")),
        ("@segment", None, ("top1", "segment")),
        (3, None, (3, None)),
    ],
)
def test_target_is_divided(spec: Any, labels: Any, expected: tuple[Any, Any]) -> None:
    assert split_place(spec, labels) == expected


@pytest.mark.parametrize(
    ("spec", "names"),
    [("dog@mask:a b.png", ["a b.png"]), ("similar:x.npy", ["x.npy"]), ("dog@box:2", [])],
)
def test_files_of_targets_are_known(spec: str, names: list[str]) -> None:
    """A result is made again when they change."""
    assert [str(path) for path in files_of(spec)] == names


def test_listed_detections_select_themselves() -> None:
    """A class is numbered among its own detections, which another class may rank before."""
    scores = np.array([[0.9, 0.1, 0.8], [0.5, 0.3, 0.1]])
    boxes = np.array([[0, 0, 10, 10], [20, 20, 30, 30], [40, 40, 50, 50]], float)
    view = DenseView(
        Dense(DETECTION, 2, is_probability=True),
        scores,
        scores,
        (0, 0, 64, 64),
        boxes=boxes,
        suppress=suppress,
    )
    listed = list_targets(view, 0.2, 20)
    assert [positions(read_target(spec, view)) for spec in listed] == [[0], [2], [1]]


def test_background_is_not_the_class_at_a_numbered_box() -> None:
    scores = np.array([[0.1, 0.6], [0.9, 0.3], [0.0, 0.1]])
    view = DenseView(
        Dense(DETECTION, 3, is_probability=True, background=1),
        scores,
        scores,
        (0, 0, 64, 64),
        boxes=BOXES[[0, 2]],
        suppress=suppress,
    )
    assert read_target("top1@box:2", view).index == 0


def test_listed_region_of_one_probability_is_where_it_wins() -> None:
    values = np.array([[0.9, 0.1, 0.1, 0.1]])
    dense = Dense(SEGMENTATION, 1, is_probability=True, grid=(2, 2))
    view = DenseView(
        dense, values, values, (0, 0, 2, 2), grid=(2, 2), labels=("background", "person")
    )
    assert list_targets(view, 0.5, 20) == ["class:0@segment"]
    target = read_target("class:0@segment", view)
    assert (target.name, positions(target)) == ("person", [0])


def test_image_without_detections_is_refused() -> None:
    view = detector(boxes=np.zeros((0, 4)))
    empty = replace(view, scores=SCORES[:, :0], probabilities=SCORES[:, :0])
    for spec in ("top1", "cat", "@box:1", "cat@box:0,0,9,9"):
        with pytest.raises(PlaceError, match="detects nothing"):
            read_target(spec, empty)
    with pytest.raises(PlaceError, match="detects nothing"):
        list_targets(empty, 0.0, 20)


def test_boxes_that_are_not_finite_are_passed_over() -> None:
    boxes = BOXES.copy()
    boxes[3] = np.nan
    view = detector(boxes=boxes)
    assert positions(read_target("cat@box:0,0,10,10", view)) == [0]
    boxes[3] = [0, 0, np.inf, np.inf]
    assert positions(read_target("e-mail@pixel:35,35", detector(boxes=boxes))) == [2]


@pytest.mark.parametrize("spec", ["top2@box:1", "top2@pixel:5,5", "top2@box:0,0,10,10"])
def test_class_ranked_at_a_box_selects_the_same_box_again(spec: str) -> None:
    """The best box of that class may be another one that overlaps it."""
    scores = np.array([[0.9, 0.2], [0.3, 0.8], [0.1, 0.1]])
    view = detector(boxes=np.array([[0, 0, 10, 10], [0, 0, 10, 10.5]]))
    view = replace(view, scores=scores, probabilities=scores)
    target = read_target(spec, view)
    again = read_target(target.spec, view)
    assert (again.index, positions(again)) == (target.index, positions(target))


def test_position_of_the_output_is_selected_exactly() -> None:
    assert positions(read_target("dog@position:1", detector())) == [1]
    with pytest.raises(PlaceError, match="a number from 0 to 3"):
        read_target("dog@position:4", detector())
