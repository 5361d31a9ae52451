"""Colors: the default rises evenly in lightness, measured by OKLab's forward transform."""

import numpy as np
import pytest
from numpy.typing import NDArray

from onnxcam.errors import UnknownNameError
from onnxcam.image.colormap import COLORMAPS, DEFAULT, legend

VALUES = np.linspace(0, 1, 256)


def lightness(colors: NDArray[np.uint8]) -> NDArray[np.float64]:
    """L of OKLab from sRGB bytes, by Ottosson's matrices from linear sRGB to L."""
    srgb = colors / 255.0
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    cones = linear @ np.array(
        [
            [0.4122214708, 0.5363325363, 0.0514459929],
            [0.2119034982, 0.6806995451, 0.1073969566],
            [0.0883024619, 0.2817188376, 0.6299787005],
        ]
    ).T  # fmt: skip
    return np.cbrt(cones) @ np.array([0.2104542553, 0.7936177850, -0.0040720468])


@pytest.mark.parametrize("name", COLORMAPS)
def test_any_shape_gives_bytes(name: str) -> None:
    for shape in ((), (5,), (2, 3), (2, 3, 4)):
        colors = COLORMAPS[name](np.full(shape, 0.3))
        assert colors.shape == (*shape, 3)
        assert colors.dtype == np.uint8


@pytest.mark.parametrize("name", COLORMAPS)
def test_values_beyond_the_range_take_its_ends(name: str) -> None:
    colors = COLORMAPS[name](np.array([-3.0, 0.0, np.nan, -np.inf, 1.0, 7.0, np.inf]))
    assert (colors[:4] == colors[0]).all()
    assert (colors[4:] == colors[4]).all()
    assert (colors[0] != colors[4]).any()


def test_default_lightness_rises_evenly() -> None:
    colors = lightness(COLORMAPS[DEFAULT](VALUES))
    assert np.diff(colors).min() > 0
    straight = colors[0] + (colors[-1] - colors[0]) * VALUES
    assert np.abs(colors - straight).max() < 0.005
    assert colors[-1] - colors[0] > 0.7


def test_default_goes_from_violet_to_yellow() -> None:
    first, middle, last = COLORMAPS[DEFAULT](np.array([0.0, 0.5, 1.0])).astype(int)
    assert first[2] > first[0] > first[1]
    assert middle[0] > middle[1] + 80
    assert last[0] > last[1] > last[2] + 50


def test_jet_is_blue_green_red() -> None:
    colors = COLORMAPS["jet"](np.array([0.125, 0.375, 0.5, 0.625, 0.875])).astype(int)
    assert colors[0].tolist() == [0, 0, 255]
    assert colors[1].tolist() == [0, 255, 255]
    assert colors[2].tolist() == [128, 255, 128]
    assert colors[3].tolist() == [255, 255, 0]
    assert colors[4].tolist() == [255, 0, 0]


def test_gray_is_the_value() -> None:
    np.testing.assert_array_equal(COLORMAPS["gray"](VALUES)[:, 1], np.arange(256))


def test_legend_runs_from_left_to_right() -> None:
    bar = legend("gray", width=100, height=5)
    assert bar.size == (100, 5)
    assert (bar.getpixel((0, 2)), bar.getpixel((99, 4))) == ((0, 0, 0), (255, 255, 255))


def test_misspelled_map_is_suggested() -> None:
    with pytest.raises(UnknownNameError, match="did you mean jet"):
        COLORMAPS["jett"]
