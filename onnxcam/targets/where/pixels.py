"""Pixels: `@pixel:x,y`, `@mask:FILE`, `@segment` (where the class wins), `@box:x0,y0,x1,y1`, and `@all`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from onnxcam.arrays import Floats
from onnxcam.dense import DETECTION, IMAGE, SEGMENTATION
from onnxcam.errors import PlaceError, TargetError
from onnxcam.targets.classes import Side
from onnxcam.targets.target import Mark
from onnxcam.targets.where.detections import (
    NUMBER,
    RECTANGLE,
    as_rectangle,
    overlapping,
    position_scores,
    require_boxes,
    respell,
)
from onnxcam.targets.where.place import DenseView, Selection, place

PIXELS = SEGMENTATION, IMAGE


def areas(view: DenseView) -> Floats:
    """(classes,): the number of pixels where each class is the best one; the background ranks last. A single
    class has the area where its score is positive.
    """
    counts = np.array([winning(view, Side(index)).sum() for index in range(view.classes)], float)
    if view.dense.background is not None:
        counts[view.dense.background] = -1
    return counts


@place("segment", r"segment", "segment", rank=areas, tasks=[SEGMENTATION])
def segment(view: DenseView, side: Side | None) -> Selection:
    """The mean over the pixels where the class is the best one."""
    wins = winning(view, side or Side(0)).reshape(_grid(view))
    if wins.any():
        return view.at(wins, Mark(outline=wins))
    notice = "the class is the best one at no pixel, so the mean over all pixels is explained"
    return view.at(np.ones(_grid(view)), Mark(), (notice,))


@place("pixel", rf"pixel:\s*(?P<x>{NUMBER}),\s*(?P<y>{NUMBER})", "pixel:x,y", tasks=PIXELS)
def pixel(view: DenseView, _: Side | None, *, x: str, y: str) -> Selection:
    """One pixel, at a position of the image."""
    wins = np.zeros(_grid(view))
    wins[_cell(view, float(x), float(y))] = 1
    return view.at(wins, Mark(outline=wins > 0))


@place(
    "pixel-of-box",
    rf"pixel:\s*(?P<x>{NUMBER}),\s*(?P<y>{NUMBER})",
    "pixel:x,y",
    respell=respell,
    tasks=[DETECTION],
)
def box_around(view: DenseView, side: Side | None, *, x: str, y: str) -> Selection:
    """The best detection whose box contains a pixel of the image."""
    boxes, point = require_boxes(view), np.array([float(x), float(y)])
    is_inside = np.all((boxes[:, :2] <= point) & (point <= boxes[:, 2:]), axis=1)
    contains = is_inside & np.isfinite(boxes).all(axis=1)
    if not contains.any():
        raise PlaceError(f"@pixel:{x},{y}: no box contains this pixel of the image")
    best = int(np.argmax(np.where(contains, position_scores(view, side), -np.inf)))
    return view.at([best], Mark(box=tuple(map(float, boxes[best]))))  # type: ignore[arg-type]


@place("box-of-pixels", rf"box:\s*{RECTANGLE}", "box:x0,y0,x1,y1", tasks=PIXELS)
def inside(view: DenseView, _: Side | None, *, x0: str, y0: str, x1: str, y1: str) -> Selection:
    """The mean over the pixels in a rectangle of the image."""
    box = as_rectangle(x0, y0, x1, y1)
    rows, columns = _grid(view)
    left, top = _to_cells(view, box[0], box[1])
    right, bottom = _to_cells(view, box[2], box[3])
    row, column = np.arange(rows)[:, None], np.arange(columns)
    shares = np.clip(np.minimum(row + 1, bottom) - np.maximum(row, top), 0, 1) * np.clip(
        np.minimum(column + 1, right) - np.maximum(column, left), 0, 1
    )
    if not shares.any():
        raise PlaceError(f"@box:{x0},{y0},{x1},{y1}: the model does not see this part of the image")
    return view.at(shares, Mark(box=box))


@place("mask", r"mask:(?P<file>.+)", "mask:FILE", tasks=[*PIXELS, DETECTION])
def masked(view: DenseView, side: Side | None, *, file: str) -> Selection:
    """The mean over the pixels of a mask; of a detector, the detection that overlaps its bounding box best."""
    mask = view.read_mask(file.strip())
    if not mask.any():
        raise TargetError(f"@mask:{file}: the mask is empty; expected pixels other than 0")
    if view.dense.task == DETECTION:
        rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
        return overlapping(
            view, side, (float(columns[0]), float(rows[0]), columns[-1] + 1.0, rows[-1] + 1.0)
        )
    shares = view.cover(mask)
    if not shares.any():
        raise PlaceError(f"@mask:{file}: the model does not see this part of the image")
    return view.at(shares, Mark(outline=shares >= 0.5))


@place(
    "all", r"all", "all", fixed=lambda positions: np.full(positions, 1 / positions), tasks=PIXELS
)
def everything(view: DenseView, _: Side | None) -> Selection:
    """The mean over all pixels."""
    return view.at(np.ones(_grid(view)), Mark())


def winning(view: DenseView, side: Side) -> NDArray[np.bool_]:
    """(positions,): where a class is the best one. A single score says yes above 0, or above 0.5 if it is a
    probability, and no below.
    """
    if view.classes > 1:
        return np.asarray(view.scores.argmax(axis=0) == side.index)
    return np.asarray(side.sign * (view.scores[0] - view.middle) > 0)


def _grid(view: DenseView) -> tuple[int, int]:
    if view.grid is None:
        raise TargetError("the rows and columns of the pixels of this model are unknown")
    return view.grid


def _to_cells(view: DenseView, x: float, y: float) -> tuple[float, float]:
    """A point of the image as column and row of the grid, not rounded."""
    left, top, right, bottom = view.shown
    rows, columns = _grid(view)
    return (x - left) / (right - left) * columns, (y - top) / (bottom - top) * rows


def _cell(view: DenseView, x: float, y: float) -> tuple[int, int]:
    """The row and column of a pixel. TargetError if the model does not see it."""
    column, row = (int(np.floor(number)) for number in _to_cells(view, x + 0.5, y + 0.5))
    rows, columns = _grid(view)
    if not (0 <= row < rows and 0 <= column < columns):
        left, top, right, bottom = (f"{side:.0f}" for side in view.shown)
        raise PlaceError(
            f"@pixel:{x:g},{y:g}: the model sees the part {left},{top},{right},{bottom} of the image; "
            "expected a pixel in it"
        )
    return row, column
