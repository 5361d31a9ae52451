"""Colors: lightness rises evenly with the evidence, measured by OKLab's forward transform, and the sign of a
signed map is seen by everybody.
"""

import numpy as np
import pytest
from numpy.typing import NDArray

from onnxcam.errors import SettingError, UnknownNameError
from onnxcam.image.colormap import (
    COLORMAPS,
    DEFAULT,
    DEFAULT_DIVERGING,
    choose_colormap,
    legend,
    names_of_colormaps,
)

VALUES = np.linspace(0, 1, 256)
DIVERGING = names_of_colormaps(signed=True)
# How linear sRGB looks to people without one kind of cones: Machado et al. 2009, table 1, severity 1
SIGHT = {
    "trichromacy": np.eye(3),
    "protanopia": np.array(
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ]
    ),
    "deuteranopia": np.array(
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ]
    ),
    "tritanopia": np.array(
        [
            [1.255528, -0.076749, -0.178779],
            [-0.078411, 0.930809, 0.147602],
            [0.004733, 0.691367, 0.303900],
        ]
    ),
}


def oklab(colors: NDArray[np.uint8], sight: str = "trichromacy") -> NDArray[np.float64]:
    """(..., 3) L, a, b of OKLab from sRGB bytes, by Ottosson's matrices from linear sRGB."""
    srgb = colors / 255.0
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    cones = np.clip(linear @ SIGHT[sight].T, 0, 1) @ np.array(
        [
            [0.4122214708, 0.5363325363, 0.0514459929],
            [0.2119034982, 0.6806995451, 0.1073969566],
            [0.0883024619, 0.2817188376, 0.6299787005],
        ]
    ).T  # fmt: skip
    return np.cbrt(cones) @ np.array(
        [
            [0.2104542553, 0.7936177850, -0.0040720468],
            [1.9779984951, -2.4285922050, 0.4505937099],
            [0.0259040371, 0.7827717662, -0.8086757660],
        ]
    ).T  # fmt: skip


def lightness(colors: NDArray[np.uint8]) -> NDArray[np.float64]:
    return oklab(colors)[..., 0]


@pytest.mark.parametrize("name", COLORMAPS)
def test_any_shape_gives_bytes(name: str) -> None:
    for shape in ((), (5,), (2, 3), (2, 3, 4)):
        colors = COLORMAPS[name](np.full(shape, 0.3))
        assert colors.shape == (*shape, 3)
        assert colors.dtype == np.uint8


@pytest.mark.parametrize("name", COLORMAPS)
def test_values_beyond_the_range_take_its_ends(name: str) -> None:
    colormap = COLORMAPS[name]
    colors = colormap(np.array([-3.0, colormap.lowest, -np.inf, 1.0, 7.0, np.inf]))
    assert (colors[:3] == colors[0]).all()
    assert (colors[3:] == colors[3]).all()
    assert (colors[0] != colors[3]).any()


@pytest.mark.parametrize("name", COLORMAPS)
def test_nan_has_the_color_of_zero(name: str) -> None:
    not_a_number, zero = COLORMAPS[name](np.array([np.nan, 0.0]))
    np.testing.assert_array_equal(not_a_number, zero)


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


@pytest.mark.parametrize("name", DIVERGING)
def test_zero_is_neutral_and_in_the_middle_of_a_diverging_map(name: str) -> None:
    colormap = COLORMAPS[name]
    zero = colormap(np.array(0.0))
    assert np.ptp(zero) == 0
    np.testing.assert_array_equal(zero, colormap.levels[len(colormap.levels) // 2])
    np.testing.assert_array_equal(legend(name, width=101).getpixel((50, 0)), zero)
    assert colormap.values[len(colormap.values) // 2] == 0


def test_default_for_signed_maps_has_equal_lightness_on_both_sides() -> None:
    against, for_target = (
        lightness(COLORMAPS[DEFAULT_DIVERGING](sign * VALUES)) for sign in (-1, 1)
    )
    assert np.abs(against - for_target).max() < 0.006
    straight = for_target[0] + (for_target[-1] - for_target[0]) * VALUES
    assert np.abs(for_target - straight).max() < 0.006
    assert for_target[-1] - for_target[0] > 0.5


@pytest.mark.parametrize("sight", SIGHT)
def test_sign_is_seen_with_any_color_blindness(sight: str) -> None:
    colormap = COLORMAPS[DEFAULT_DIVERGING]
    values = np.linspace(0.1, 1, 50)
    sides = [oklab(colormap(sign * values), sight) for sign in (-1, 1)]
    distance = np.linalg.norm(sides[0] - sides[1], axis=-1)
    assert distance.min() > 0.12  # 0.02 is what can just be seen


def test_default_depends_on_kind_of_map() -> None:
    assert choose_colormap() is COLORMAPS["ember"]
    assert choose_colormap(signed=True) is COLORMAPS["polar"]


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("name", COLORMAPS)
def test_named_map_must_suit_the_kind_of_map(name: str, signed: bool) -> None:
    if (name in DIVERGING) == signed:
        assert choose_colormap(name, signed=signed) is COLORMAPS[name]
        return
    suitable = "polar, redblue" if signed else "ember, jet, gray"
    with pytest.raises(
        SettingError, match=rf"^the color map {name} has .* choose one of: {suitable}$"
    ):
        choose_colormap(name, signed=signed)


@pytest.mark.parametrize("name", COLORMAPS)
def test_every_map_says_what_its_colors_are(name: str) -> None:
    assert COLORMAPS[name].meaning
