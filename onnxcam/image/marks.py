"""Marks on an image: the box or the outline of what is explained, with its name."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from onnxcam.image.geometry import Box
from onnxcam.image.text import INK, PAPER, draw_label

PER_WIDTH = 320  # pixels of the longer side for a line of one pixel


def draw_box(image: Image.Image, box: Box, label: str | None = None) -> None:
    """Draw the outline of a box (left, top, right, bottom) in pixels, in place, with a label at its upper left
    corner. What lies outside of the image is drawn along its edge.
    """
    line = _line_width(image)
    edges = (image.width - 1, image.height - 1)
    left, top, right, bottom = (
        min(max(round(side), 0), edges[number % 2]) for number, side in enumerate(box)
    )
    draw = ImageDraw.Draw(image)
    rectangle = (left, top, max(left, right), max(top, bottom))
    draw.rectangle(_grown(rectangle, 1, image), outline=INK, width=line + 2)
    draw.rectangle(rectangle, outline=PAPER, width=line)
    if label:
        draw_label(image, label, (left, top), max(image.size) // 40)


def draw_outline(
    image: Image.Image,
    mask: NDArray[np.bool_],
    covered: tuple[int, int, int, int],
    cells: Box | None = None,
) -> None:
    """Draw the outline of a mask (rows, columns), in place: of its `cells` (left, top, right, bottom; all of
    them by default), which cover a part of the image.
    """
    line = _line_width(image)
    size = (covered[2] - covered[0], covered[3] - covered[1])
    shares = Image.fromarray(mask.astype(np.float32)).resize(size, Image.Resampling.BILINEAR, cells)
    region = Image.fromarray(np.where(np.asarray(shares) >= 0.5, np.uint8(255), np.uint8(0)))
    for width, color in ((2 * line + 3, INK), (2 * line - 1, PAPER)):
        edge = np.asarray(_spread(region, width)) > np.asarray(region)
        image.paste(color, covered, Image.fromarray(edge))


def _spread(region: Image.Image, width: int) -> Image.Image:
    return region.filter(ImageFilter.MaxFilter(max(3, width)))


def _line_width(image: Image.Image) -> int:
    return max(1, round(max(image.size) / PER_WIDTH))


def _grown(
    box: tuple[int, int, int, int], by: int, image: Image.Image
) -> tuple[int, int, int, int]:
    """A box that is larger on all sides, inside the image."""
    left, top, right, bottom = box
    return (
        max(left - by, 0),
        max(top - by, 0),
        min(right + by, image.width - 1),
        min(bottom + by, image.height - 1),
    )
