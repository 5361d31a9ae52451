"""Color maps: values between 0 and 1 become colors."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from onnxcam.arrays import Floats
from onnxcam.registry import Registry

Colormap: TypeAlias = Callable[[Floats], NDArray[np.uint8]]  # (...) in [0, 1] -> (..., 3) RGB

DEFAULT = "ember"
COLORMAPS: Registry[Colormap] = Registry("color map")

# OKLab to linear sRGB: Bjorn Ottosson, "A perceptual color space for image processing" (2020).
_LAB_TO_CONES = np.array(
    [
        [1.0, 0.3963377774, 0.2158037573],
        [1.0, -0.1055613458, -0.0638541728],
        [1.0, -0.0894841775, -1.2914855480],
    ]
)
_CONES_TO_RGB = np.array(
    [
        [4.0767416621, -3.3077115913, 0.2309699292],
        [-1.2684380046, 2.6097574011, -0.3413193965],
        [-0.0041960863, -0.7034186147, 1.7076147010],
    ]
)
# value, chroma and hue (degrees) of ember; its lightness rises on a straight line. The chroma stays
# inside what sRGB can show, so that no clipping bends that line.
_EMBER = np.array(
    [
        [0.00, 0.110, 290.0],
        [0.25, 0.175, 325.0],
        [0.50, 0.200, 372.0],
        [0.75, 0.150, 415.0],
        [1.00, 0.095, 464.0],
    ]
)
_EMBER_LIGHTNESS = (0.22, 0.96)


def ember(values: Floats) -> NDArray[np.uint8]:
    """Dark violet, magenta, orange, light yellow: perceived lightness rises with the value."""
    return _ember_levels()[np.rint(_clip_to_unit(values) * 255).astype(np.intp)]


def jet(values: Floats) -> NDArray[np.uint8]:
    """Blue, cyan, yellow, red: the map of most papers; its lightness does not follow the value."""
    quarters = 4 * _clip_to_unit(values)[..., np.newaxis] - np.array([3.0, 2.0, 1.0])
    return _to_bytes(1.5 - np.abs(quarters))


def gray(values: Floats) -> NDArray[np.uint8]:
    """Black to white."""
    return _to_bytes(np.repeat(_clip_to_unit(values)[..., np.newaxis], 3, axis=-1))


for _colormap in (ember, jet, gray):
    COLORMAPS.add(_colormap.__name__, _colormap)


def legend(colormap: str = DEFAULT, *, width: int = 256, height: int = 16) -> Image.Image:
    """A bar of the colors from 0 (left) to 1 (right); UnknownNameError for an unknown map."""
    row = COLORMAPS[colormap](np.linspace(0, 1, width))
    return Image.fromarray(np.broadcast_to(row, (height, width, 3)).copy())


@cache
def _ember_levels() -> NDArray[np.uint8]:
    """(256, 3): ember of 0/255, 1/255, ... 1."""
    value = np.linspace(0, 1, 256)
    lightness = np.interp(value, (0, 1), _EMBER_LIGHTNESS)
    chroma = np.interp(value, _EMBER[:, 0], _EMBER[:, 1])
    hue = np.radians(np.interp(value, _EMBER[:, 0], _EMBER[:, 2]))
    lab = np.stack([lightness, chroma * np.cos(hue), chroma * np.sin(hue)], axis=-1)
    linear = (lab @ _LAB_TO_CONES.T) ** 3 @ _CONES_TO_RGB.T
    return _to_bytes(_to_srgb(linear))


def _to_srgb(linear: Floats) -> Floats:
    """Linear light to sRGB values (IEC 61966-2-1)."""
    light = np.clip(linear, 0, 1)
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


def _clip_to_unit(values: Floats) -> NDArray[np.float64]:
    return np.clip(np.nan_to_num(np.asarray(values, np.float64), nan=0.0), 0, 1)


def _to_bytes(colors: Floats) -> NDArray[np.uint8]:
    return np.rint(np.clip(colors, 0, 1) * 255).astype(np.uint8)
