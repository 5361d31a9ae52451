"""Color maps: values between 0 and 1 become colors; for a diverging map, values between -1 and 1."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from onnxcam.arrays import Floats
from onnxcam.errors import SettingError
from onnxcam.registry import Registry

Stop: TypeAlias = tuple[float, tuple[float, float, float]]  # a value and its color

DEFAULT, DEFAULT_DIVERGING = "ember", "polar"
_LEVELS = 1025  # odd, so that 0 has a color of its own in a diverging map

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


def srgb(colors: Floats) -> Floats:
    """Red, green and blue as they are."""
    return colors


def oklch(colors: Floats) -> Floats:
    """(n, 3) lightness, chroma and hue (degrees) to sRGB."""
    lightness, chroma, hue = colors.T
    angle = np.radians(hue)
    lab = np.stack([lightness, chroma * np.cos(angle), chroma * np.sin(angle)], axis=-1)
    return _to_srgb((lab @ _LAB_TO_CONES.T) ** 3 @ _CONES_TO_RGB.T)


@dataclass(frozen=True)
class Colormap:
    """Colors on straight lines between stops, in the color space that `to_srgb` converts from.

    The values of a diverging map go from -1 to 1, those of a sequential map from 0 to 1.
    """

    meaning: str
    to_srgb: Callable[[Floats], Floats]
    stops: tuple[Stop, ...]

    @property
    def diverging(self) -> bool:
        """Whether the map has colors for negative values: evidence against the target."""
        return self.lowest < 0

    @property
    def lowest(self) -> float:
        """The value of the first color: -1 or 0."""
        return self.stops[0][0]

    def __call__(self, values: Floats) -> NDArray[np.uint8]:
        """(...) to (..., 3) RGB. Values beyond the range have the color of its end, NaN that of 0."""
        return self.levels[self.index(np.nan_to_num(np.asarray(values, np.float64), nan=0.0))]

    def index(self, values: Floats) -> NDArray[np.intp]:
        """The row of `levels` for each value."""
        unit = (np.clip(values, self.lowest, 1) - self.lowest) / (1 - self.lowest)
        return np.rint(unit * (_LEVELS - 1)).astype(np.intp)

    @cached_property
    def values(self) -> NDArray[np.float64]:
        """(levels,): the value of each row of `levels`."""
        return np.linspace(self.lowest, 1, _LEVELS)

    @cached_property
    def levels(self) -> NDArray[np.uint8]:
        """(levels, 3): the colors from the lowest value to 1."""
        positions, colors = zip(*self.stops, strict=True)
        channels = [
            np.interp(self.values, positions, channel) for channel in zip(*colors, strict=True)
        ]
        return _to_bytes(self.to_srgb(np.stack(channels, axis=-1)))


COLORMAPS: Registry[Colormap] = Registry("color map")

# The lightness of ember and polar lies on straight lines, and their chroma stays inside what sRGB can show,
# so that no clipping bends these lines. Polar has the same lightness for evidence against and for; its hues,
# blue and orange, differ for all kinds of color blindness. Around 0 it is dark, and the photograph with it.
COLORMAPS.add(
    "ember",
    Colormap(
        "dark violet, magenta, orange, light yellow: perceived lightness rises with the value",
        oklch,
        (
            (0.00, (0.220, 0.110, 290)),
            (0.25, (0.405, 0.175, 325)),
            (0.50, (0.590, 0.200, 372)),
            (0.75, (0.775, 0.150, 415)),
            (1.00, (0.960, 0.095, 464)),
        ),
    ),
)
COLORMAPS.add(
    "jet",
    Colormap(
        "blue, cyan, yellow, red: the map of most papers; its lightness does not follow the value",
        srgb,
        (
            (0.000, (0.0, 0.0, 0.5)),
            (0.125, (0.0, 0.0, 1.0)),
            (0.375, (0.0, 1.0, 1.0)),
            (0.625, (1.0, 1.0, 0.0)),
            (0.875, (1.0, 0.0, 0.0)),
            (1.000, (0.5, 0.0, 0.0)),
        ),
    ),
)
COLORMAPS.add("gray", Colormap("black to white", srgb, ((0.0, (0, 0, 0)), (1.0, (1, 1, 1)))))
COLORMAPS.add(
    "polar",
    Colormap(
        "light blue and blue against, dark at 0, orange and gold for the target",
        oklch,
        (
            (-1.0, (0.850, 0.095, 225)),
            (-0.5, (0.570, 0.135, 245)),
            (-0.1, (0.346, 0.100, 262)),
            (0.00, (0.290, 0.000, 262)),
            (0.00, (0.290, 0.000, 40)),
            (0.10, (0.346, 0.085, 40)),
            (0.50, (0.570, 0.140, 50)),
            (1.00, (0.850, 0.155, 84)),
        ),
    ),
)
COLORMAPS.add(
    "redblue",
    Colormap(
        "blue against, dark at 0, red for the target: the colors of most papers on attributions",
        srgb,
        (
            (-1.0, (0.45, 0.6, 1.0)),
            (-0.5, (0.15, 0.3, 0.95)),
            (0.0, (0.15, 0.15, 0.15)),
            (0.5, (0.95, 0.3, 0.15)),
            (1.0, (1.0, 0.6, 0.45)),
        ),
    ),
)


def choose_colormap(name: str | None = None, *, signed: bool = False) -> Colormap:
    """The color map of this name, or the default. SettingError if it does not suit the map: a signed map has
    negative values, and only a diverging color map has colors for them. UnknownNameError for an unknown name.
    """
    colormap = COLORMAPS[name or (DEFAULT_DIVERGING if signed else DEFAULT)]
    if colormap.diverging == signed:
        return colormap
    suitable = ", ".join(names_of_colormaps(signed=signed))
    reason = (
        "has no colors for evidence against the target, and this map is signed"
        if signed
        else "has colors for evidence against the target, and this map holds none"
    )
    raise SettingError(f"the color map {name} {reason}; choose one of: {suitable}")


def names_of_colormaps(*, signed: bool) -> list[str]:
    """The names of the color maps for signed maps, or for the others."""
    return [name for name, colormap in COLORMAPS.items() if colormap.diverging == signed]


def legend(colormap: str = DEFAULT, *, width: int = 256, height: int = 16) -> Image.Image:
    """A bar of the colors from 0 (left; -1 if the map is diverging) to 1 (right); UnknownNameError for an
    unknown map.
    """
    colors = COLORMAPS[colormap]
    row = colors(np.linspace(colors.lowest, 1, width))
    return Image.fromarray(np.broadcast_to(row, (height, width, 3)).copy())


def _to_srgb(linear: Floats) -> Floats:
    """Linear light to sRGB values (IEC 61966-2-1)."""
    light = np.clip(linear, 0, 1)
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


def _to_bytes(colors: Floats) -> NDArray[np.uint8]:
    return np.rint(np.clip(colors, 0, 1) * 255).astype(np.uint8)
