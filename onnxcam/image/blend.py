"""How the colors of a map are blended with a photograph: by tables of a level of the map, so that arrays and
graphs draw the same.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from onnxcam.arrays import Floats
from onnxcam.errors import SettingError
from onnxcam.image.colormap import Colormap

LEVELS = 1025  # of the map in a drawing; odd, so that 0 is one of them if the map is signed
LUMA = (0.299, 0.587, 0.114)  # the gray of a pixel (ITU-R BT.601), as Pillow has it
_GRAY = 0.8  # how far the colors of the photograph give way to those of the map, per opacity
_SHADE = 0.5  # how far the photograph darkens where there is no evidence, per opacity


def check_drawing(opacity: float, outliers: float) -> None:
    """SettingError if a map cannot be drawn with these numbers; see `overlay`."""
    if not 0 <= opacity <= 1:
        raise SettingError(f"opacity {opacity}: expected 0 to 1")
    if not 0 <= outliers < 1:
        raise SettingError(f"outliers {outliers}: expected a fraction, 0 or more and below 1")


def blend(
    photo: Image.Image, level: NDArray[np.float32], colors: Colormap, opacity: float
) -> Image.Image:
    """The colors over the photograph, more of them where the value is far from 0; `level` is the
    square root of the value, with its sign.
    """
    lowest = lowest_level(colors)
    remaining, added = blend_tables(colors, opacity)
    index = np.rint((level - lowest) * ((LEVELS - 1) / (1 - lowest))).astype(np.intp)
    pixels = _take(np.repeat(remaining[:, np.newaxis], 3, axis=1), index)
    pixels *= np.asarray(_mute(photo, opacity))
    pixels += _take(added, index)
    return Image.fromarray(pixels.astype(np.uint8))


def lowest_level(colors: Colormap) -> int:
    """The level of the first row of the tables: -1 or 0. The last one is 1."""
    return -1 if colors.diverging else 0


def blend_tables(colors: Colormap, opacity: float) -> tuple[Floats, Floats]:
    """The factor of the muted photograph, (levels,), and the color to add to it, (levels, 3), to be cut off to
    integers.
    """
    table = np.linspace(lowest_level(colors), 1, LEVELS)
    evidence = np.square(table)
    # The square root, because weak evidence would otherwise be too faint to be seen at all.
    tint = opacity * np.abs(table)
    remaining = (1 - _SHADE * opacity * (1 - evidence)) * (1 - tint)
    added = colors(table * np.abs(table)) * tint[:, np.newaxis] + 0.5  # to round, not to cut off
    return remaining, added


def muting_matrix(opacity: float) -> Floats:
    """(3, 3): the channels of the muted photograph from those of the photograph: its colors mixed with gray."""
    share = _GRAY * opacity
    matrix: Floats = share * np.array([LUMA] * 3) + (1 - share) * np.eye(3)
    return matrix


def _take(table: Floats, index: NDArray[np.intp]) -> NDArray[np.float32]:
    """The rows of a table in float32; the mode spares NumPy a copy, there is nothing to clip."""
    return table.astype(np.float32).take(index, axis=0, mode="clip")


def _mute(photo: Image.Image, opacity: float) -> Image.Image:
    matrix = np.hstack([muting_matrix(opacity), np.zeros((3, 1))])
    return photo.convert("RGB", tuple(matrix.ravel().tolist()))
