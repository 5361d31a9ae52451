"""Draw shape functions: what a feature adds to a sum, for each of its values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from onnxcam.arrays import Floats
from onnxcam.concept_maps.bars import color_of
from onnxcam.concept_maps.drawing import GAP, GRAY, PROSE, left_text, pad, stack
from onnxcam.image import overlay
from onnxcam.image.text import PAPER, write_text

WIDTH, HEIGHT, LEFT, TITLE, BOTTOM = 220, 130, 44, 22, 26  # pixels of a plot, and around it
COLUMNS = 4
RUG = 5  # pixels of the mark of an image
LINE = 3


class Curve(NamedTuple):
    """A step function, `values` (b,) between `cuts` (b - 1,), and the values of the feature on images."""

    name: str
    cuts: Floats
    values: Floats
    points: Floats


def draw_curves(heading: str, curves: Sequence[Curve]) -> Image.Image:
    """All curves on one vertical scale, with a mark below for each image."""
    low = min(0.0, *(float(curve.values.min()) for curve in curves))
    high = max(0.0, *(float(curve.values.max()) for curve in curves))
    high = high if high > low else low + 1.0
    plots = [_draw_curve(curve, low, high) for curve in curves]
    rows = [
        overlay.compose([(plot, (n * (plot.width + GAP), 0)) for n, plot in enumerate(row)])
        for row in (plots[i : i + COLUMNS] for i in range(0, len(plots), COLUMNS))
    ]
    width = max(row.width for row in rows)
    return pad(stack([left_text(heading, width, PROSE), *rows]))


def _draw_curve(curve: Curve, low: float, high: float) -> Image.Image:
    """The function over the range of the feature on the images, in the colors of evidence for and against."""
    plot = Image.new("RGB", (LEFT + WIDTH, TITLE + HEIGHT + BOTTOM), PAPER)
    draw = ImageDraw.Draw(plot)
    write_text(plot, curve.name, (LEFT, TITLE // 2), PROSE)
    first, last = 0.0, float(curve.points.max()) or 1.0

    def across(value: float) -> float:
        return LEFT + (value - first) / (last - first) * (WIDTH - 1)

    def down(value: float) -> float:
        return TITLE + (high - value) / (high - low) * (HEIGHT - 1)

    for level in (low, 0.0, high):
        draw.line(
            (LEFT, down(level), LEFT + WIDTH, down(level)), GRAY if level == 0 else (224,) * 3
        )
    for level in (low, high):
        write_text(plot, f"{level:.1f}", (LEFT - 5, down(level)), PROSE, anchor="rm", ink=GRAY)
    cuts = curve.cuts[(curve.cuts > first) & (curve.cuts < last)]
    start = int(np.searchsorted(curve.cuts, first, side="right"))
    values = curve.values[start : start + len(cuts) + 1]
    edges = [first, *cuts.tolist(), last]
    for left, right, value in zip(edges, edges[1:], values, strict=False):
        draw.line((across(left), down(value), across(right), down(value)), color_of(value), LINE)
    for edge, before, after in zip(cuts, values, values[1:], strict=False):
        draw.line((across(edge), down(before), across(edge), down(after)), color_of(after), 1)
    floor = TITLE + HEIGHT + 2
    for point in curve.points:
        draw.line((across(point), floor, across(point), floor + RUG), GRAY)
    write_text(plot, "0", (LEFT, floor + 15), PROSE, ink=GRAY)
    write_text(plot, f"{last:.2g}", (LEFT + WIDTH - 1, floor + 15), PROSE, anchor="rm", ink=GRAY)
    return plot
