"""A letterbox pads the image to the proportions of the model, and overlays are drawn back through it."""

from typing import Any

import numpy as np
import pytest
from PIL import Image

from onnxcam.image.geometry import FITS, Fit
from onnxcam.image.overlay import overlay
from onnxcam.image.preprocess import PRESETS, Preprocessing, prepare, with_overrides
from onnxcam.specs import ImageInput


def takes(height: int = 64, width: int = 64, **settings: Any) -> ImageInput:
    chosen = {"layout": "NCHW", "channels": 3, "dtype": "float32", **settings}
    dtype = np.dtype(chosen["dtype"])
    return ImageInput("x", chosen["layout"], chosen["channels"], height, width, 1, dtype)


def noise(width: int, height: int) -> Image.Image:
    pixels = np.random.default_rng(width).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(pixels)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize(("fit", "top"), [("letterbox", 8), ("letterbox-corner", 0)])
def test_letterbox_is_resized_image_and_padding(fit: Fit, top: int, layout: str) -> None:
    image = noise(128, 96)
    settings = with_overrides(PRESETS["raw"], fit=fit)
    tensor = prepare(image, settings, takes(layout=layout)).tensor[0]
    pixels = tensor.transpose(1, 2, 0) if layout == "NCHW" else tensor
    resized = np.asarray(image.resize((64, 48), Image.Resampling.BILINEAR), np.float32)
    np.testing.assert_array_equal(pixels[top : top + 48], resized)
    np.testing.assert_array_equal(pixels[:top], 114)
    np.testing.assert_array_equal(pixels[top + 48 :], 114)
    assert tensor.flags.c_contiguous


def test_tall_image_is_padded_at_its_sides() -> None:
    tensor = prepare(noise(96, 128), Preprocessing(fit="letterbox"), takes()).tensor[0]
    np.testing.assert_allclose(tensor[:, :, :8], 114 / 255, rtol=1e-6)
    np.testing.assert_allclose(tensor[:, :, 56:], 114 / 255, rtol=1e-6)
    assert tensor[:, :, 8:56].std() > 0.05


def test_padding_is_prepared_like_pixels() -> None:
    settings = with_overrides(
        PRESETS["imagenet"], fit="letterbox", pad=(255 * 0.485, 255 * 0.456, 255 * 0.406)
    )
    tensor = prepare(noise(90, 30), settings, takes()).tensor[0]
    np.testing.assert_allclose(tensor[:, :21], 0, atol=1e-6)
    gray = prepare(noise(90, 30), settings, takes(channels=1)).tensor[0]
    np.testing.assert_allclose(gray[:, :21], 0, atol=1e-6)


def test_padding_of_bgr_is_in_the_order_of_the_model() -> None:
    settings = Preprocessing(1.0, fit="letterbox", order="bgr", pad=(1.0, 2.0, 3.0))
    tensor = prepare(Image.new("RGB", (90, 30), (10, 20, 30)), settings, takes()).tensor[0]
    assert tensor[:, 0, 0].astype(float).tolist() == [1, 2, 3]
    assert tensor[:, 32, 32].astype(float).tolist() == [30, 20, 10]


def test_padding_of_integer_model_is_rounded_and_shifted() -> None:
    settings = with_overrides(PRESETS["raw"], fit="letterbox")
    for dtype, expected in (("uint8", 114), ("int8", -14)):
        tensor = prepare(noise(90, 30), settings, takes(dtype=dtype)).tensor[0]
        assert tensor.dtype == dtype
        assert int(tensor[0, 0, 0]) == expected


def test_image_of_the_same_proportions_has_no_padding() -> None:
    image = noise(128, 128)
    boxed = prepare(image, Preprocessing(fit="letterbox"), takes())
    np.testing.assert_array_equal(
        boxed.tensor, prepare(image, Preprocessing(fit="squash"), takes()).tensor
    )
    assert boxed.box == (0, 0, 128, 128)


def colored_center(drawn: Image.Image) -> tuple[float, float]:
    """The center of what is not gray: x, y in pixels."""
    color = np.ptp(np.asarray(drawn, float), axis=-1)
    rows, columns = np.indices(color.shape) + 0.5
    return float(np.average(columns, weights=color)), float(np.average(rows, weights=color))


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("size", [(200, 120), (120, 200), (90, 90), (640, 100)])
@pytest.mark.parametrize("tensor", [(64, 64), (48, 80)])
def test_marked_pixel_comes_back_where_it_was(
    fit: Fit, size: tuple[int, int], tensor: tuple[int, int]
) -> None:
    """A block of the image is its own map: the overlay has it where the image has it."""
    x, y = size[0] // 2 - 9, size[1] // 2 + 7
    pixels = np.zeros((size[1], size[0], 3), np.uint8)
    pixels[y - 10 : y + 10, x - 10 : x + 10] = 255
    image = Image.fromarray(pixels)
    settings = Preprocessing(1.0, fit=fit, pad=(0.0,))
    prepared = prepare(image, settings, takes(*tensor, channels=1))
    gray = Image.new("RGB", size, (128, 128, 128))
    drawn = overlay(gray, prepared.tensor[0, 0].astype(float), prepared.box)
    left, top, right, bottom = prepared.box
    pixel = max((right - left) / tensor[1], (bottom - top) / tensor[0])
    assert colored_center(drawn) == pytest.approx((x, y), abs=0.5 * max(pixel, 1))


def test_evidence_in_the_padding_is_not_drawn_but_is_the_maximum() -> None:
    saliency = np.zeros((64, 64))
    saliency[:16], saliency[30:34, 30:34] = 4.0, 1.0
    drawn = overlay(Image.new("RGB", (64, 32), (128, 128, 128)), saliency, (0, -16, 64, 48))
    alone = overlay(
        Image.new("RGB", (64, 32), (128, 128, 128)), saliency[16:48] / 4, (0, 0, 64, 32)
    )
    assert np.ptp(np.asarray(drawn, float), axis=-1)[12:20, 26:38].max() > 20
    assert np.ptp(np.asarray(drawn, float)[2:10], axis=-1).max() == 0
    strong = np.ptp(np.asarray(alone, float), axis=-1).max()
    assert strong > 1.3 * np.ptp(np.asarray(drawn, float), axis=-1).max()


@pytest.mark.parametrize("longest_side", [64, 200, 1024])
def test_overlay_of_a_letterbox_has_the_size_of_the_image(longest_side: int) -> None:
    image = Image.new("RGB", (300, 170), (90, 90, 90))
    prepared = prepare(image, Preprocessing(fit="letterbox"), takes())
    drawn = overlay(image, np.ones((64, 64)), prepared.box, longest_side=longest_side)
    shrink = min(1, longest_side / 300)
    assert drawn.size == (round(300 * shrink), round(170 * shrink))
    assert np.ptp(np.asarray(drawn, float), axis=-1).min() > 0  # all of it is tinted
