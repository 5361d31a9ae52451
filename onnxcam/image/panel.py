"""A map over the part of an image that a model saw, as one of many on a sheet."""

from __future__ import annotations

from typing import Any

from PIL import Image

from onnxcam.arrays import Floats
from onnxcam.image import overlay
from onnxcam.image.geometry import Box


def draw_panel(
    image: Image.Image, saliency: Floats, box: Box, cell: int, **drawing: Any
) -> Image.Image:
    """A square of `cell` pixels with the part of the image in a box that a map (h, w) covers, and the map over
    it. `drawing` is passed to `overlay`.
    """
    left, top, right, bottom = box
    edges = (
        max(0, round(left)),
        max(0, round(top)),
        min(image.width, max(1, round(right))),
        min(image.height, max(1, round(bottom))),
    )
    shown = image.crop(edges)
    large = overlay.enlarge(shown, cell)
    factor = large.width / shown.width
    covered = (
        (left - edges[0]) * factor,
        (top - edges[1]) * factor,
        (right - edges[0]) * factor,
        (bottom - edges[1]) * factor,
    )
    drawn = overlay.overlay(large, saliency, covered, longest_side=2 * cell, **drawing)
    small = overlay.thumbnail(drawn, cell)
    corner = (cell - small.width) // 2, (cell - small.height) // 2
    return overlay.compose([(small, corner)], (cell, cell))
