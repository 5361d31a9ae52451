"""Detections: `@box:2`, the second best one, and `@box:x0,y0,x1,y1`, the one with the best overlap."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from onnxcam.arrays import Floats
from onnxcam.dense import DETECTION
from onnxcam.errors import PlaceError, TargetError
from onnxcam.targets.classes import Side
from onnxcam.targets.target import Mark
from onnxcam.targets.where.place import DenseView, Rectangle, Selection, numbered, place

NUMBER = r"-?\d+(?:\.\d+)?"
RECTANGLE = rf"(?P<x0>{NUMBER}),\s*(?P<y0>{NUMBER}),\s*(?P<x1>{NUMBER}),\s*(?P<y1>{NUMBER})"
SAME = 0.9  # of the best overlap: positions above it show the same object
LOW_OVERLAP = 0.5


def class_scores(view: DenseView) -> Floats:
    """(classes,): the best detection of each class. The background ranks last."""
    return view.without_background(view.probabilities.max(axis=1))


def ranked(view: DenseView, side: Side | None) -> NDArray[np.int64]:
    """The positions of the best detections of a class, or of all classes, the best first."""
    scores = position_scores(view, side)
    if view.boxes is None:
        return np.argsort(-scores, kind="stable")
    return view.suppress(view.boxes, scores)


def position_scores(view: DenseView, side: Side | None) -> Floats:
    """(positions,): the probability of a class, or of the best one that is not the background."""
    if side is not None:
        return view.probabilities[side.index]
    return np.asarray(view.without_background(view.probabilities).max(axis=0))


@place("best", r"best|all", "best", rank=class_scores, tasks=[DETECTION])
def best_box(view: DenseView, side: Side | None) -> Selection:
    """The best detection of the class: the maximum over all boxes."""
    return numbered_box(view, side, number="1")


def respell(view: DenseView, side: Side, selection: Selection) -> str:
    """The number of a detection among those of its class; its position in the output if it is none of them."""
    position = int(selection.weights.argmax())
    positions = ranked(view, side).tolist()
    if position in positions:
        return f"box:{positions.index(position) + 1}"
    return f"position:{position}"


@place(
    "position",
    r"position:\s*(?P<number>\d{1,9})",
    "position:117",
    fixed=numbered,
    tasks=[DETECTION],
)
def position_of_output(view: DenseView, _: Side | None, *, number: str) -> Selection:
    """The box at a position of the output, counted from 0 over all grids."""
    return _at_box(view, int(np.argmax(numbered(view.positions, number=number))), ())


@place("box", r"box:\s*(?P<number>\d{1,6})", "box:2", respell=respell, tasks=[DETECTION])
def numbered_box(view: DenseView, side: Side | None, *, number: str) -> Selection:
    """The best detection, the second best, and so on: of a class, or of all classes."""
    positions = ranked(view, side)
    if not 1 <= int(number) <= len(positions):
        raise PlaceError(f"@box:{number}: expected a number from 1 to {len(positions)}")
    notices: tuple[str, ...] = ()
    if view.boxes is None and int(number) > 1:
        notices = (
            "the boxes of this model are unknown, so several of its detections may show the same object",
        )
    return _at_box(view, int(positions[int(number) - 1]), notices)


@place("box-at", rf"box:\s*{RECTANGLE}", "box:x0,y0,x1,y1", respell=respell, tasks=[DETECTION])
def box_at(view: DenseView, side: Side | None, *, x0: str, y0: str, x1: str, y1: str) -> Selection:
    """The detection whose box overlaps a rectangle best, whatever its score."""
    return overlapping(view, side, as_rectangle(x0, y0, x1, y1))


def overlapping(view: DenseView, side: Side | None, rectangle: Rectangle) -> Selection:
    """The detection that overlaps a rectangle best; of those that do nearly as well, the surest."""
    boxes = require_boxes(view)
    overlaps = np.nan_to_num(intersection_over_union(boxes, np.array(rectangle)))
    if not overlaps.max() > 0:
        raise PlaceError(f"no box overlaps {_listed(rectangle)}; expected pixels of the image")
    candidates = np.flatnonzero(overlaps >= SAME * overlaps.max())
    best = candidates[np.argmax(position_scores(view, side)[candidates])]
    notices: tuple[str, ...] = ()
    if overlaps[best] < LOW_OVERLAP:
        text = (
            f"the box that overlaps {_listed(rectangle)} best is {_listed(boxes[best])}, and only "
            f"{overlaps[best]:.0%} of both is common to them"
        )
        notices = (text,)
    return _at_box(view, int(best), notices)


def _at_box(view: DenseView, position: int, notices: tuple[str, ...]) -> Selection:
    box = None if view.boxes is None else tuple(map(float, view.boxes[position]))
    return view.at([position], Mark(box=box), notices)  # type: ignore[arg-type]


def require_boxes(view: DenseView) -> Floats:
    """The boxes; TargetError if they are unknown."""
    if view.boxes is None:
        raise TargetError(
            "the boxes of this model could not be decoded, so none can be chosen by its place; use @box:K "
            "for the K-th best detection, or say where the boxes are (--head boxes=NAME,scores=NAME)"
        )
    return view.boxes


def as_rectangle(x0: str, y0: str, x1: str, y1: str) -> Rectangle:
    """The rectangle; TargetError if it is empty."""
    left, top, right, bottom = map(float, (x0, y0, x1, y1))
    if left >= right or top >= bottom:
        raise TargetError(
            f"@box:{x0},{y0},{x1},{y1}: expected left, top, right, bottom, with left < right and top < bottom"
        )
    return left, top, right, bottom


def intersection_over_union(boxes: Floats, rectangle: Floats) -> Floats:
    """(n,): the area that boxes (n, 4) and a rectangle have in common, over that of both."""
    sides = np.minimum(boxes[:, 2:], rectangle[2:]) - np.maximum(boxes[:, :2], rectangle[:2])
    common = np.prod(np.maximum(sides, 0), axis=1)
    areas = np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0), axis=1)
    total = areas + np.prod(rectangle[2:] - rectangle[:2]) - common
    return np.asarray(common / np.maximum(total, np.finfo(np.float64).tiny))


def _listed(box: object) -> str:
    return ",".join(f"{side:.0f}" for side in np.asarray(box))
