"""Boxes that the graph decodes: two corners, or a center and a size; in pixels or in fractions of the image."""

from __future__ import annotations

import numpy as np

from onnxcam.arrays import Floats
from onnxcam.dense import Boxes, Numbers
from onnxcam.heads.boxes.form import BoxColumns, Size, box_form
from onnxcam.heads.boxes.grid import make_grid, match_grids

BOX = 4
MAX_FRACTION = 2.0  # most corners of boxes in pixels are larger
BY_VALUES = (
    "their values tell whether they are corners or centers, and pixels or fractions of the image"
)


def decode_corners(rows: list[Floats], numbers: Numbers, size: Size) -> Floats:
    """x0, y0, x1, y1."""
    del numbers
    return _to_pixels(np.concatenate(rows, axis=1), size)


def decode_corners_y_first(rows: list[Floats], numbers: Numbers, size: Size) -> Floats:
    """y0, x0, y1, x1, as in TensorFlow."""
    del numbers
    return _to_pixels(np.concatenate(rows, axis=1)[..., [1, 0, 3, 2]], size)


def decode_centers(rows: list[Floats], numbers: Numbers, size: Size) -> Floats:
    """x, y, width, height."""
    del numbers
    return _to_pixels(corners_of(np.concatenate(rows, axis=1)), size)


def decode_by_values(rows: list[Floats], numbers: Numbers, size: Size) -> Floats:
    """What the values tell: boxes on a grid lie near their cells; of corners, the second is right of and below
    the first.
    """
    layouts = (decode_corners, decode_centers, decode_corners_y_first)
    boxes = [layout(rows, numbers, size) for layout in layouts]
    match = match_grids([array.shape[1] for array in rows], size)
    if match is None:
        sides = boxes[0][..., 2:] - boxes[0][..., :2]
        return boxes[0] if np.mean(sides > 0) > 0.99 else boxes[1]
    points = make_grid(*match, size).points(0.5)
    distances = [float(np.median(np.abs(_centers(box) - points))) for box in boxes]
    return boxes[int(np.argmin(distances))]


def corners_of(rows: Floats) -> Floats:
    """x, y, width and height as x0, y0, x1, y1."""
    centers, halves = rows[..., :2], rows[..., 2:4] / 2
    return np.concatenate([centers - halves, centers + halves], axis=-1)


def _centers(corners: Floats) -> Floats:
    return (corners[..., :2] + corners[..., 2:]) / 2


def _to_pixels(corners: Floats, size: Size) -> Floats:
    """Pixels, also of fractions of the image."""
    height, width = size
    finite = np.abs(corners[np.isfinite(corners)])
    if finite.size and np.median(finite) > MAX_FRACTION:
        return corners
    return corners * np.array([width, height, width, height])


@box_form("corners", "yolo-nas", "ppyoloe", "ultraface", "yolov10", decode=decode_corners)
def find_corners(columns: BoxColumns) -> Boxes | None:
    """Decoded corners, by the operators."""
    has_corners = columns.layout == "corners" and not columns.channels_last
    return Boxes("corners", columns.columns) if _is_decoded(columns) and has_corners else None


@box_form("corners-y-first", decode=decode_corners_y_first)
def find_corners_y_first(columns: BoxColumns) -> Boxes | None:
    """Decoded corners of a model with images (N, H, W, C): TensorFlow has y first."""
    if not (_is_decoded(columns) and columns.layout == "corners" and columns.channels_last):
        return None
    return Boxes(
        "corners-y-first", columns.columns, assumed="y is assumed before x, as in TensorFlow"
    )


@box_form(
    "centers", "yolov5", "yolov7", "yolov8", "yolo11", "rtdetr", "detr", decode=decode_centers
)
def find_centers(columns: BoxColumns) -> Boxes | None:
    """Decoded centers, by the operators or the metadata of Ultralytics."""
    is_ultralytics = columns.own and columns.metadata.keys() >= {"task", "names"}
    has_centers = is_ultralytics or (_is_decoded(columns) and columns.layout == "centers")
    return Boxes("centers", columns.columns) if columns.width == BOX and has_centers else None


@box_form("boxes", decode=decode_by_values)
def find_decoded(columns: BoxColumns) -> Boxes | None:
    """Decoded boxes of which the operators do not tell more."""
    is_detr = columns.activation == "Sigmoid" and not columns.own
    is_unknown = columns.layout == "" and (not columns.raw or is_detr)
    if columns.width != BOX or not is_unknown or columns.metadata.keys() >= {"task", "names"}:
        return None
    return Boxes("boxes", columns.columns, assumed=BY_VALUES)


def _is_decoded(columns: BoxColumns) -> bool:
    return columns.width == BOX and not columns.raw
