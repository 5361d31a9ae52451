"""The overlay shows the evidence where it is, dims what the model did not see, and never shifts the map."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from onnxcam.errors import SettingError, UnknownNameError
from onnxcam.image.colormap import COLORMAPS, choose_colormap, names_of_colormaps
from onnxcam.image.overlay import LARGEST_SIDE, LONGEST_SIDE, grid, overlay, sheet
from tests.support.limits import run_limited

FULL_BOX = (0.0, 0.0, 60.0, 40.0)


def photo(width: int = 60, height: int = 40) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(pixels)


def plain(width: int = 60, height: int = 40) -> Image.Image:
    return Image.new("RGB", (width, height), (90, 140, 90))


def array(image: Image.Image) -> Any:
    return np.asarray(image, np.float64)


def spot(y: int, x: int, shape: tuple[int, int] = (8, 8)) -> Any:
    saliency = np.zeros(shape)
    saliency[y, x] = 3e-7
    return saliency


def test_overlay_keeps_size_and_input_image() -> None:
    image = photo()
    drawn = overlay(image, spot(2, 2), FULL_BOX)
    assert (drawn.mode, drawn.size) == ("RGB", (60, 40))
    np.testing.assert_array_equal(image, photo())


def test_no_opacity_is_the_photograph() -> None:
    np.testing.assert_array_equal(overlay(photo(), spot(2, 2), FULL_BOX, opacity=0), photo())


def test_full_opacity_is_the_color_at_the_maximum() -> None:
    drawn = overlay(photo(), np.full((4, 4), 0.02), FULL_BOX, opacity=1)
    assert drawn.getcolors() == [(2400, tuple(COLORMAPS["ember"](np.array(1.0)).tolist()))]


def test_weak_evidence_is_tinted_by_its_root_and_what_lacks_it_darkens() -> None:
    gray = Image.new("RGB", (80, 40), (120, 120, 120))
    saliency = np.full((8, 16), 0.5)
    saliency[:, :4], saliency[:, 12:] = 2.0, 0.0
    drawn = array(overlay(gray, saliency, (0, 0, 80, 40), opacity=0.6))
    quarter = np.array(COLORMAPS["ember"](np.array(0.25)), float)
    expected = 120 * (1 - 0.5 * 0.6 * 0.75) * (1 - 0.6 * 0.5) + quarter * 0.6 * 0.5
    np.testing.assert_allclose(drawn[20, 40], expected, atol=1)
    np.testing.assert_allclose(drawn[20, 75], 120 * (1 - 0.5 * 0.6), atol=1)


@pytest.mark.parametrize("name", COLORMAPS)
def test_tint_is_strongest_at_maximum(name: str) -> None:
    tint, signed = np.array(COLORMAPS[name](np.array(1.0)), float), COLORMAPS[name].diverging
    drawn = array(overlay(plain(), spot(2, 6), FULL_BOX, signed=signed, colormap=name))
    distance = np.abs(drawn - tint).sum(-1)
    y, x = np.unravel_index(distance.argmin(), distance.shape)
    assert (y // 5, x // 7.5) == (2, 6)


def test_map_is_divided_by_maximum_and_not_shifted() -> None:
    saliency = np.random.default_rng(1).random((8, 8)) + 0.5
    first = overlay(photo(), saliency, FULL_BOX)
    np.testing.assert_array_equal(first, overlay(photo(), saliency * 4, FULL_BOX))
    assert (array(first) != array(overlay(photo(), saliency - 0.5, FULL_BOX))).any()


def test_negative_values_are_no_evidence() -> None:
    mixed = spot(2, 2)
    mixed[6, 6] = -5
    np.testing.assert_array_equal(
        overlay(photo(), mixed, FULL_BOX), overlay(photo(), spot(2, 2), FULL_BOX)
    )


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("opacity", [0.3, 0.6, 1.0])
def test_fast_drawing_is_the_formula(opacity: float, signed: bool) -> None:
    """In float64, pixel by pixel, without tables: at most the rounding of three steps apart."""
    pixels = np.random.default_rng(2).integers(0, 256, (64, 64, 3), np.uint8)
    saliency = np.random.default_rng(3).uniform(-1 if signed else 0, 1, (64, 64))
    image, box = Image.fromarray(pixels), (0, 0, 64, 64)
    drawn = array(overlay(image, saliency, box, signed=signed, opacity=opacity))
    value = saliency / np.abs(saliency).max()
    strength = np.abs(value)[..., np.newaxis]
    gray = (pixels @ np.array([0.299, 0.587, 0.114]))[..., np.newaxis]
    muted = pixels + 0.8 * opacity * (gray - pixels)
    shaded = muted * (1 - 0.5 * opacity * (1 - strength))
    colors = choose_colormap(signed=signed)(value)
    expected = shaded + opacity * np.sqrt(strength) * (colors - shaded)
    difference = np.abs(drawn - expected)
    assert difference.max() < 2.5
    assert difference.mean() < 0.4


def test_tiny_values_are_evidence() -> None:
    smallest = np.full((4, 4), 5e-324)
    np.testing.assert_array_equal(
        overlay(photo(), smallest, FULL_BOX), overlay(photo(), np.ones((4, 4)), FULL_BOX)
    )


# Signed maps


@pytest.mark.parametrize("name", names_of_colormaps(signed=True))
def test_signed_map_is_tinted_for_and_against(name: str) -> None:
    gray = Image.new("RGB", (90, 30), (120, 120, 120))
    saliency = np.zeros((3, 9))
    saliency[:, :3], saliency[:, 6:] = -0.02, 0.02
    drawn = array(overlay(gray, saliency, (0, 0, 90, 30), signed=True, colormap=name, opacity=0.6))
    against, target = (np.array(COLORMAPS[name](np.array(end)), float) for end in (-1.0, 1.0))
    np.testing.assert_allclose(drawn[15, 5], 120 * 0.4 + against * 0.6, atol=1)
    np.testing.assert_allclose(drawn[15, 85], 120 * 0.4 + target * 0.6, atol=1)
    np.testing.assert_allclose(drawn[15, 45], 120 * 0.7, atol=1)  # at 0, as where nothing is


def test_signed_map_is_divided_by_largest_absolute_value() -> None:
    saliency = np.full((4, 8), 0.5)
    saliency[:, :4] = -2.0
    drawn = overlay(photo(), saliency, FULL_BOX, signed=True)
    np.testing.assert_array_equal(drawn, overlay(photo(), saliency * 7, FULL_BOX, signed=True))
    saliency[:, :4] = -0.5
    assert (array(drawn) != array(overlay(photo(), saliency, FULL_BOX, signed=True))).any()


def test_signed_map_of_other_sign_has_tint_of_same_strength() -> None:
    """With a color map whose sides mirror each other, only the hue tells the sign."""
    gray, saliency = Image.new("RGB", (64, 64), (120, 120, 120)), spot(2, 3)
    drawn, mirrored = (
        array(overlay(gray, sign * saliency, (0, 0, 64, 64), signed=True, colormap="redblue"))
        for sign in (1, -1)
    )
    np.testing.assert_array_equal(drawn, mirrored[..., ::-1])
    assert (drawn != mirrored).any()


def test_signed_map_with_evidence_against_only_is_drawn() -> None:
    drawn = array(overlay(plain(), -spot(2, 6), FULL_BOX, signed=True))
    bluest = np.argmax(drawn[..., 2] - drawn[..., 0])
    y, x = divmod(int(bluest), drawn.shape[1])
    assert (y // 5, x // 7.5) == (2, 6)


def test_enlarged_signed_map_has_no_fringe_of_the_other_sign() -> None:
    gray = Image.new("RGB", (64, 64), (120, 120, 120))
    drawn = array(overlay(gray, spot(2, 3), (0, 0, 64, 64), signed=True, colormap="redblue"))
    assert (drawn[..., 0] >= drawn[..., 2]).all()
    assert (drawn[..., 0] > drawn[..., 2] + 50).any()


@pytest.mark.parametrize("signed", [False, True])
def test_outliers_are_drawn_like_the_largest_of_the_others(signed: bool) -> None:
    saliency = np.random.default_rng(4).uniform(-1 if signed else 0.1, 1, (20, 30))
    saliency[3, 4] = -90 if signed else 90
    clipped = np.sort(np.abs(saliency).ravel())[-7]  # of 600, the largest 6 are 1 %
    drawn = overlay(photo(), saliency, FULL_BOX, signed=signed, outliers=0.01)
    expected = overlay(photo(), np.clip(saliency, -clipped, clipped), FULL_BOX, signed=signed)
    np.testing.assert_array_equal(drawn, expected)
    assert (array(drawn) != array(overlay(photo(), saliency, FULL_BOX, signed=signed))).any()


def test_outliers_are_a_fraction_of_cells_with_evidence() -> None:
    """Of a map that is 0 almost everywhere, the evidence must not be what is left out."""
    saliency = np.zeros((40, 60))
    saliency[20, 30], saliency[20, 31] = 1, 2
    drawn, expected = (
        overlay(photo(), saliency, FULL_BOX, outliers=fraction) for fraction in (0.005, 0)
    )
    np.testing.assert_array_equal(drawn, expected)
    zeros = overlay(photo(), np.zeros((4, 4)), FULL_BOX)
    np.testing.assert_array_equal(overlay(photo(), -saliency, FULL_BOX, outliers=0.5), zeros)


def test_empty_signed_map_is_gray_and_labeled() -> None:
    zeros = np.zeros((4, 4))
    np.testing.assert_array_equal(
        overlay(plain(), zeros, FULL_BOX, signed=True), overlay(plain(), zeros, FULL_BOX)
    )


@pytest.mark.parametrize(
    ("signed", "name", "suitable"),
    [(True, "ember", "polar, redblue"), (False, "polar", "ember, jet, gray")],
)
def test_unsuitable_colormap_is_refused(signed: bool, name: str, suitable: str) -> None:
    for saliency in (spot(2, 2), np.zeros((4, 4))):
        with pytest.raises(SettingError, match=rf"color map {name} .* choose one of: {suitable}$"):
            overlay(photo(), saliency, FULL_BOX, signed=signed, colormap=name)


def test_outside_the_box_the_image_is_grey_and_dim() -> None:
    drawn = array(overlay(plain(), spot(4, 4), (20.0, 10.0, 40.0, 30.0)))
    outside = np.ones((40, 60), bool)
    outside[10:30, 20:40] = False
    assert np.ptp(drawn[outside], axis=-1).max() == 0
    assert drawn[outside].max() < 60
    assert (drawn[10:30, 20:40] >= drawn[outside].max()).any(axis=-1).all()


def test_map_is_drawn_in_box() -> None:
    drawn = array(overlay(plain(), spot(0, 0, (2, 2)), (20.4, 9.6, 40.4, 29.6)))
    bright = drawn.sum(-1)
    y, x = np.unravel_index(bright.argmax(), bright.shape)
    assert 10 <= y < 20
    assert 20 <= x < 30


@pytest.mark.parametrize("saliency", [np.zeros((4, 4)), np.full((4, 4), -2.0)])
def test_empty_map_is_gray_and_labeled(saliency: Any) -> None:
    drawn = array(overlay(plain(200, 100), saliency, (0, 0, 200, 100)))
    assert np.ptp(drawn, axis=-1).max() == 0
    gray = drawn[0, 0, 0]
    assert (drawn[5:15] == gray).all()
    assert len(np.unique(drawn[35:65])) > 5
    assert drawn.max() > 240


def test_side_by_side_puts_the_original_left() -> None:
    both = overlay(photo(), spot(2, 2), FULL_BOX, side_by_side=True)
    assert both.height == 40
    np.testing.assert_array_equal(both.crop((0, 0, 60, 40)), photo())
    np.testing.assert_array_equal(
        both.crop((both.width - 60, 0, both.width, 40)), overlay(photo(), spot(2, 2), FULL_BOX)
    )


def test_caption_is_drawn_below() -> None:
    bare = overlay(photo(300, 200), spot(2, 2), (0, 0, 300, 200))
    with_caption = overlay(
        photo(300, 200), spot(2, 2), (0, 0, 300, 200), caption="Egyptian cat 0.83"
    )
    assert with_caption.width == 300
    np.testing.assert_array_equal(with_caption.crop((0, 0, 300, 200)), bare)
    assert array(with_caption)[200:].min() < 60
    longer = overlay(photo(300, 200), spot(2, 2), (0, 0, 300, 200), caption="many words " * 60)
    assert with_caption.height < longer.height < 300


@settings(max_examples=60, derandomize=True, deadline=None, database=None)
@given(caption=st.text(), width=st.integers(1, 80))
def test_any_caption_can_be_drawn(caption: str, width: int) -> None:
    drawn = overlay(plain(width, 8), np.ones((2, 2)), (0, 0, width, 8), caption=caption)
    assert drawn.width == width
    assert drawn.height > 8


def test_accents_are_dropped_rather_than_drawn_as_boxes() -> None:
    def with_caption(text: str) -> Image.Image:
        return overlay(plain(200), np.ones((2, 2)), (0, 0, 200, 40), caption=text)

    np.testing.assert_array_equal(with_caption("Café\tà\n2×3"), with_caption("Cafe a 2x3"))
    np.testing.assert_array_equal(with_caption("猫"), with_caption("?"))
    assert (array(with_caption("·")) != array(with_caption("?"))).any()


@pytest.mark.parametrize("word", ["a", "word ", "e\u0301", "\x1b[2J\u202e漢\n"])
def test_caption_of_megabytes_is_drawn_quickly(word: str) -> None:
    code = f"""
from onnxcam.image.text import render_text
long, short = (render_text({word!r} * count, 400, 10).tobytes() for count in (10**6, 10**3))
assert long == short
"""
    result = run_limited(code, seconds=20)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(
    ("side", "size"), [(LARGEST_SIDE, (3000, 30)), (1500, (1500, 15)), (30, (30, 1)), (1, (1, 1))]
)
def test_longest_side_is_the_size_that_larger_images_are_drawn_at(
    side: int, size: tuple[int, int]
) -> None:
    box = (0.0, 0.0, 3000.0, 30.0)
    assert overlay(plain(3000, 30), spot(0, 7), box, longest_side=side).size == size


def test_map_shrinks_with_large_image() -> None:
    drawn = overlay(plain(3 * LONGEST_SIDE, 30), spot(0, 7), (0, 0, 3 * LONGEST_SIDE, 30))
    assert drawn.size == (LONGEST_SIDE, 10)
    bright = array(drawn).sum(-1)
    assert bright[:, -128:].max() > bright[:, :-256].max() + 100


def test_box_shrinks_with_large_image() -> None:
    right_half = (float(LONGEST_SIDE), 20.0, 2.0 * LONGEST_SIDE, 40.0)
    drawn = array(overlay(plain(2 * LONGEST_SIDE, 40), np.ones((2, 2)), right_half))
    colored = np.ptp(drawn, axis=-1) > 0
    assert colored[10:, LONGEST_SIDE // 2 :].all()
    assert colored.sum() == 10 * LONGEST_SIDE // 2


@settings(max_examples=80, derandomize=True, deadline=None, database=None)
@given(st.data())
def test_any_box_within_the_image_can_be_drawn(data: st.DataObject) -> None:
    side = st.integers(1, 30)
    width, height = data.draw(side), data.draw(side)
    share = st.floats(0, 1, exclude_max=True)
    left, top = data.draw(share) * width, data.draw(share) * height
    right = left + (width - left) * data.draw(st.floats(1e-6, 1))
    bottom = top + (height - top) * data.draw(st.floats(1e-6, 1))
    if left < right <= width and top < bottom <= height:
        drawn = overlay(plain(width, height), spot(1, 1), (left, top, right, bottom))
        assert drawn.size == (width, height)


@pytest.mark.parametrize("size", [(1, 1), (1, 400), (400, 1)])
def test_slivers_can_be_drawn(size: tuple[int, int]) -> None:
    for saliency in (np.ones((3, 3)), np.zeros((3, 3))):
        drawn = overlay(plain(*size), saliency, (0, 0, *size), side_by_side=True, caption="thin")
        assert drawn.height > size[1]


def test_transparent_image_is_laid_on_white() -> None:
    clear = Image.new("RGBA", (60, 40), 0)
    white = Image.new("RGB", (60, 40), "white")
    np.testing.assert_array_equal(
        overlay(clear, spot(2, 2), FULL_BOX), overlay(white, spot(2, 2), FULL_BOX)
    )


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"opacity": 1.5}, "opacity 1.5: expected 0 to 1"),
        ({"opacity": float("nan")}, "opacity nan"),
        ({"outliers": 1}, "outliers 1: expected a fraction, 0 or more and below 1"),
        ({"outliers": -0.1}, "outliers -0.1"),
        ({"outliers": float("nan")}, "outliers nan"),
        ({"longest_side": 0}, "longest_side 0: expected 1 to 8192 pixels"),
        ({"longest_side": 8193}, "longest_side 8193"),
        (
            {"saliency": np.zeros((1, 4, 4))},
            r"shape \(1, 4, 4\): expected one map \(height, width\)",
        ),
        ({"saliency": np.zeros((0, 4))}, r"shape \(0, 4\)"),
        ({"saliency": np.full((4, 4), np.nan)}, "not finite"),
        ({"saliency": np.full((4, 4), np.inf)}, "not finite"),
        ({"box": (60, 0, 61, 40)}, "expected left < right .* 60 x 40 pixels"),
        ({"box": (-9, 0, 0, 40)}, "box"),
        ({"box": (0, 0, float("inf"), 40)}, "box"),
        ({"box": (5, 0, 5, 40)}, "box"),
        ({"box": (0, 0, float("nan"), 40)}, "box"),
    ],
)
def test_settings_out_of_range_are_refused(changed: dict[str, Any], error: str) -> None:
    settled: dict[str, Any] = {"saliency": spot(2, 2), "box": FULL_BOX} | changed
    with pytest.raises(SettingError, match=error):
        overlay(photo(), **settled)


def test_unknown_colormap_is_error_for_empty_map() -> None:
    with pytest.raises(UnknownNameError, match="did you mean gray"):
        overlay(photo(), np.zeros((4, 4)), FULL_BOX, colormap="grey")


def test_grid_has_one_cell_per_image() -> None:
    red, blue = Image.new("RGB", (10, 10), "red"), Image.new("RGBA", (20, 10), "blue")
    sheet = grid([[red, blue], [blue]], column_titles=["one", "two"], cell=64)
    count = {color: number for number, color in sheet.getcolors(1 << 20) or []}
    assert count[255, 0, 0] == 64 * 64
    assert count[0, 0, 255] == 2 * 64 * 32
    assert sheet.width == 64 + 8 + 64
    assert array(sheet)[:16].min() < 60


def test_row_titles_take_a_column_of_their_own() -> None:
    rows = [[plain()], [plain()]]
    bare = grid(rows, column_titles=["one"])
    with_caption = grid(rows, column_titles=["one"], row_titles=["first", "second"])
    assert with_caption.height == bare.height
    np.testing.assert_array_equal(
        with_caption.crop((with_caption.width - 224, 0, *with_caption.size)), bare
    )
    left = array(with_caption)[:, : with_caption.width - 224]
    assert left[: with_caption.height // 2].min() < 60
    assert left[with_caption.height // 2 :].min() < 60


def test_sheet_has_titles_over_each_image_and_rows_of_one_width() -> None:
    images = [Image.new("RGB", (10, 10), "red")] * 5
    sheet_of_five = sheet(images, ["cat", "dog", "owl", "bee", "ant"], columns=2, cell=64)
    count = {color: number for number, color in sheet_of_five.getcolors(1 << 20) or []}
    assert count[255, 0, 0] == 5 * 64 * 64
    assert sheet_of_five.width == 64 + 8 + 64
    row_height = (sheet_of_five.height - 2 * 8) // 3
    for row in range(3):
        top = row * (row_height + 8)
        title = array(sheet_of_five)[top : top + row_height - 64]
        assert (title[:, :64].min() < 60, title[:, 72:].min() < 60) == (True, row < 2)
    assert sheet(images[:1], ["cat"]).width == 224


@pytest.mark.parametrize(
    ("rows", "changed", "error"),
    [
        ([], {}, "a grid needs at least one row"),
        ([[]], {}, "a grid needs at least one row"),
        ([[plain(), plain()]], {}, "2 images in a row and 1 column titles"),
        ([[plain()]], {"row_titles": ["a", "b"]}, "2 row titles for 1 rows"),
        ([[plain()]], {"cell": 31}, "cell 31: expected 32 to 2048"),
        ([[plain()]], {"cell": 2049}, "cell 2049"),
    ],
)
def test_grids_that_do_not_fit_are_refused(rows: Any, changed: Any, error: str) -> None:
    with pytest.raises(SettingError, match=error):
        grid(rows, column_titles=["one"], **changed)
