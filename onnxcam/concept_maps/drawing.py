"""Draw concepts over images: a row for each concept, with the images that show it best."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from PIL import Image

from onnxcam.arrays import Floats
from onnxcam.explain.explanation import ExplainedImage
from onnxcam.image import overlay
from onnxcam.image.panel import draw_panel
from onnxcam.image.text import INK, PAPER, render_text

CELL, SIDE, GAP, MARGIN = 168, 232, 10, 18  # pixels
NAME, PROSE = 17, 13  # pixels of font size
GRAY = (96, 96, 96)
OPACITY = 0.6


class ConceptPanel(NamedTuple):
    """The map (h, w) of a concept on an image, and the largest value that it has on any image."""

    image: ExplainedImage
    saliency: Floats
    peak: float


class ConceptRow(NamedTuple):
    """A concept: its name, what is said about it, and images that show it."""

    name: str
    lines: Sequence[str]
    panels: Sequence[ConceptPanel]


def draw_rows(heading: str, rows: Sequence[ConceptRow]) -> Image.Image:
    """All concepts below each other."""
    bands = [_draw_row(row) for row in rows]
    width = max(band.width for band in bands)
    return pad(stack([left_text(heading, width, PROSE, GRAY), *bands]))


def _draw_row(row: ConceptRow) -> Image.Image:
    title = stack(
        [
            left_text(row.name, SIDE, NAME),
            *(left_text(line, SIDE, PROSE, GRAY) for line in row.lines),
        ],
        2,
    )
    panels = [
        (draw_concept(panel, CELL), (SIDE + GAP + n * (CELL + GAP), 0))
        for n, panel in enumerate(row.panels)
    ]
    return overlay.compose([(title, (0, 0)), *panels])


def draw_concept(panel: ConceptPanel, cell: int) -> Image.Image:
    """The map over the image, in a square; fainter where the concept is stronger on other images."""
    strength = float(panel.saliency.max()) / panel.peak if panel.peak else 0.0
    opacity = OPACITY * min(1.0, strength) ** 0.5
    image = panel.image
    return draw_panel(image.image, panel.saliency, image.box, cell, opacity=opacity)


def stack(bands: Sequence[Image.Image], gap: int = GAP) -> Image.Image:
    """Images below each other."""
    tops = [sum(band.height + gap for band in bands[:n]) for n in range(len(bands))]
    return overlay.compose([(band, (0, top)) for band, top in zip(bands, tops, strict=True)])


def left_text(text: str, width: int, size: int, ink: tuple[int, int, int] = INK) -> Image.Image:
    """Lines that begin at the left edge."""
    margin = size // 2
    line = render_text(text, width + 2 * margin, size, ink=ink)
    return line.crop((margin, 0, width + margin, line.height))


def pad(image: Image.Image) -> Image.Image:
    """An image with a margin."""
    sheet = Image.new("RGB", (image.width + 2 * MARGIN, image.height + 2 * MARGIN), PAPER)
    sheet.paste(image, (MARGIN, MARGIN))
    return sheet
