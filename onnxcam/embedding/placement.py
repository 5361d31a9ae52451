"""Where the pixels of an image of any size lie in the tensor: `place` of `image.geometry`, for a height and
width that are known only when the graph runs.

Everything is computed in integers, so that every runtime gets the same.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from onnxcam.graph import anp
from onnxcam.graph.tracing import Value
from onnxcam.image.geometry import Fit, resized_sides


class Span(NamedTuple):
    """One axis of the image in the tensor: its `size` pixels are resized to `resized`, of which the `shown`
    pixels of the tensor show those from `start` on; before 0 and from `resized` on lies padding. int64 (1,)
    Values.
    """

    size: Value
    resized: Value
    start: Value
    shown: int


def place_spans(
    sides: tuple[Value, Value], tensor: tuple[int, int], fit: Fit, crop_ratio: float
) -> tuple[Span, Span]:
    """The rows and the columns. `sides` of the image and of the tensor are (height, width).

    The same as `place`, except in letterboxes whose shorter side is exactly half way between two integers:
    Python rounds the product of a rounded quotient, which gives the other one for 1 size of an image in
    100,000.
    """
    if fit == "squash":
        resized, starts = _constants(sides, tensor), _constants(sides, (0, 0))
    elif fit in ("letterbox", "letterbox-corner"):
        is_centered = fit == "letterbox"
        resized = _fit_inside(sides, tensor, is_centered)
        pairs = zip(resized, tensor, strict=True)
        starts = [-quotient(full - side, 2) * int(is_centered) for side, full in pairs]
    else:
        enlarged = resized_sides(tensor, crop_ratio)
        resized = _cover(sides, enlarged) if fit == "crop" else _constants(sides, enlarged)
        pairs = zip(resized, tensor, strict=True)
        starts = [
            anp.rint((side - full).astype(np.float32) * 0.5).astype(np.int64)
            for side, full in pairs
        ]
    rows, columns = (Span(*axis) for axis in zip(sides, resized, starts, tensor, strict=True))
    return rows, columns


def quotient(dividend: Value, divisor: Value | int) -> Value:
    """The integer part of a quotient of integers that are not negative."""
    return dividend.build.op("Div", dividend, dividend.constant_like(divisor))


def _constants(sides: tuple[Value, Value], numbers: tuple[int, int] | list[int]) -> list[Value]:
    return [sides[0].build.constant(np.array([number], np.int64)) for number in numbers]


def _cover(sides: tuple[Value, Value], full: list[int]) -> list[Value]:
    """The image in its proportions, as small as it covers these sides, rounded down."""
    (height, width), (rows, columns) = sides, full
    height_decides = width * rows > height * columns
    return [
        anp.where(height_decides, height.constant_like([rows]), quotient(height * columns, width)),
        anp.where(height_decides, quotient(width * rows, height), width.constant_like([columns])),
    ]


def _fit_inside(sides: tuple[Value, Value], tensor: tuple[int, int], rounds: bool) -> list[Value]:
    """The image in its proportions, as large as fits inside the tensor: rounded to the nearest, or down."""
    (height, width), (rows, columns) = sides, tensor
    scale = _round_quotient if rounds else quotient
    width_decides = width * rows >= height * columns
    free = [scale(height * columns, width), scale(width * rows, height)]
    return [
        anp.maximum(anp.where(width_decides, free[0], height.constant_like([rows])), 1),
        anp.maximum(anp.where(width_decides, width.constant_like([columns]), free[1]), 1),
    ]


def _round_quotient(dividend: Value, divisor: Value) -> Value:
    """The nearest integer; of two, the even one."""
    doubled = divisor * 2
    above = quotient(dividend * 2 + divisor, doubled)
    is_tie = anp.equal(above * doubled, dividend * 2 + divisor)
    return anp.where(is_tie, quotient(above, 2) * 2, above)
