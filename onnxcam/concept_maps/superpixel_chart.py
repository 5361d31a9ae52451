"""Draw the superpixels of an image by their effects, beside the shape functions of those that matter most."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from onnxcam.arrays import Floats
from onnxcam.concept_maps.curves import Curve, draw_curves
from onnxcam.concept_maps.drawing import GAP, GRAY, PROSE, left_text, stack
from onnxcam.explain.explanation import ExplainedImage
from onnxcam.image import overlay
from onnxcam.image.panel import draw_panel
from onnxcam.image.text import PAPER, write_text
from onnxcam.methods.samplers.segments import Labels

SIDE = 360  # pixels of the image
DRAWN = 8  # curves
OPACITY = 0.6


def draw_superpixels(
    heading: str, image: ExplainedImage, labels: Labels, effects: Floats, curves: Sequence[Curve]
) -> Image.Image:
    """The effects over the image, with the numbers of the superpixels whose curves are drawn: those with the
    largest effects, in this order.
    """
    order = np.argsort(-np.abs(effects), kind="stable")[:DRAWN]
    drawn = draw_panel(
        image.image, effects[labels], image.box, SIDE, signed=True, opacity=OPACITY
    ).convert("RGB")
    for number in order:
        _write_number(drawn, int(number) + 1, labels == number)
    note = f"the {len(order)} superpixels with the largest effects, of {len(effects)}"
    left = stack([drawn, left_text(note, SIDE, PROSE, GRAY)], 4)
    right = draw_curves(heading, [curves[number] for number in order])
    return overlay.compose([(left, (GAP, GAP)), (right, (SIDE + 2 * GAP, 0))])


def _write_number(drawn: Image.Image, number: int, is_inside: NDArray[np.bool_]) -> None:
    """Near the middle of a superpixel, on one of its pixels. The map fills a square, or the middle of it."""
    height, width = is_inside.shape
    rows, columns = np.nonzero(is_inside)
    scale = SIDE / max(height, width)
    middle = np.argmin((rows - rows.mean()) ** 2 + (columns - columns.mean()) ** 2)
    across = (SIDE - width * scale) / 2 + (columns[middle] + 0.5) * scale
    down = (SIDE - height * scale) / 2 + (rows[middle] + 0.5) * scale
    for shift in ((-1, 0), (1, 0), (0, -1), (0, 1)):
        place = across + shift[0], down + shift[1]
        write_text(drawn, str(number), place, PROSE, anchor="mm")
    write_text(drawn, str(number), (across, down), PROSE, anchor="mm", ink=PAPER)
