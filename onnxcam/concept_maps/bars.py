"""A bar chart of signed parts of a sum, each beside a map."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from onnxcam.concept_maps.drawing import (
    GRAY,
    NAME,
    PROSE,
    ConceptPanel,
    draw_concept,
    left_text,
    pad,
    stack,
)
from onnxcam.explain.explanation import ExplainedImage
from onnxcam.image import overlay
from onnxcam.image.colormap import COLORMAPS, DEFAULT_DIVERGING
from onnxcam.image.text import PAPER, write_text

SIDE = 280  # pixels of the image at the left
THUMB, LABEL, WIDTH, NUMBER, GAP = 64, 180, 280, 64, 10  # pixels of a row
THICKNESS, ROW = 22, 34  # pixels of a bar, and of a row without a map
TONE = 0.75  # of the colors of maps for and against


class Bar(NamedTuple):
    """A part of a sum."""

    name: str
    value: float
    panel: ConceptPanel | None = None


def draw_bars(image: ExplainedImage, title: str, bars: Sequence[Bar]) -> Image.Image:
    """The image with a title, and a bar for each part, to the right of zero if it is positive."""
    low = min(0.0, *(bar.value for bar in bars))
    high = max(0.0, *(bar.value for bar in bars))
    span = (low, high if high > low else low + 1.0)
    shown = overlay.thumbnail(overlay.enlarge(image.image, SIDE), SIDE)
    left = stack(
        [shown, left_text(title, SIDE, NAME), left_text("the sum of the bars", SIDE, PROSE, GRAY)],
        4,
    )
    right = stack([_draw_bar(bar, span) for bar in bars], 0)
    return pad(overlay.compose([(left, (0, 0)), (right, (SIDE + 2 * GAP, 0))]))


def _draw_bar(bar: Bar, span: tuple[float, float]) -> Image.Image:
    """The map, the name, the bar on a scale that all bars share, and the number beside it."""
    height = THUMB + 4 if bar.panel else ROW
    middle, start = height // 2, THUMB + LABEL + 2 * GAP + NUMBER
    row = Image.new("RGB", (start + WIDTH + NUMBER, height), PAPER)
    if bar.panel:
        row.paste(draw_concept(bar.panel, THUMB), (0, 2))
    write_text(row, bar.name, (THUMB + GAP, middle), PROSE)
    low, high = span
    zero, end = (start + round((value - low) / (high - low) * WIDTH) for value in (0.0, bar.value))
    draw = ImageDraw.Draw(row)
    if zero != end:
        top, bottom = middle - THICKNESS // 2, middle + THICKNESS // 2
        draw.rectangle((min(zero, end), top, max(zero, end), bottom), fill=color_of(bar.value))
    draw.line((zero, 0, zero, height), GRAY)
    side, anchor = (6, "lm") if bar.value >= 0 else (-6, "rm")
    write_text(row, f"{bar.value:+.2f}", (end + side, middle), PROSE, anchor=anchor)
    return row


def color_of(value: float) -> tuple[int, int, int]:
    """That of evidence for or against in signed maps."""
    red, green, blue = COLORMAPS[DEFAULT_DIVERGING](np.array(np.copysign(TONE, value)))
    return int(red), int(green), int(blue)
