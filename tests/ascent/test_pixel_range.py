"""Images become what preprocessing makes of them, and gradients go the way back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image

from onnxcam.ascent.pixel_range import PixelRange, to_images
from onnxcam.image.preprocess import PRESETS, Preprocessing, prepare
from onnxcam.specs import ImageInput

DRAW = np.random.Generator(np.random.SFC64(6))


def takes(layout: str = "NCHW", channels: int = 3, dtype: Any = np.float32) -> ImageInput:
    return ImageInput("x", layout, channels, 8, 10, None, np.dtype(dtype))


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize(
    ("preset", "dtype"),
    [
        *((preset, np.float32) for preset in ("imagenet", "tf", "caffe", "unit", "raw")),
        ("raw", np.uint8),
        ("raw", np.int8),
        ("imagenet", np.float16),
    ],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_image_becomes_what_preprocessing_makes_of_it(
    preset: str, dtype: Any, layout: str, channels: int
) -> None:
    image, preprocessing = takes(layout, channels, dtype), PRESETS[preset]
    levels = DRAW.integers(0, 256, (8, 10, 3), np.uint8)
    if channels == 1:
        levels[:] = levels[..., :1]
    squashed = Preprocessing(
        preprocessing.scale, preprocessing.mean, preprocessing.std, preprocessing.order, "squash"
    )
    expected: Any = prepare(Image.fromarray(levels), squashed, image).tensor
    pixels = PixelRange.of(squashed, image)
    x = np.moveaxis(levels[..., :channels] / 127.5 - 1.0, -1, 0)[None]
    np.testing.assert_allclose(pixels.to_model(x), expected, rtol=2e-3, atol=2e-3)
    assert pixels.to_model(x).dtype == expected.dtype
    np.testing.assert_allclose(pixels.from_tensor(expected), x, atol=5e-3)
    (drawn,) = to_images(x)
    np.testing.assert_array_equal(np.asarray(drawn), levels)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("preset", ["imagenet", "caffe"])
def test_gradient_goes_the_way_back(preset: str, layout: str) -> None:
    pixels = PixelRange.of(PRESETS[preset], takes(layout))
    x, direction = DRAW.uniform(-1, 1, (2, 2, 3, 8, 10))
    gradient = DRAW.standard_normal(pixels.to_tensor(x).shape)
    change = pixels.to_tensor(x + direction).astype(float) - pixels.to_tensor(x)
    expected = np.sum(gradient * change)
    assert np.sum(pixels.to_gradient(gradient) * direction) == pytest.approx(expected, rel=1e-3)
