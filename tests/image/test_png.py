"""PNG files hold exactly the pixels that were drawn, and are small for what is drawn."""

from io import BytesIO

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from PIL import Image

from onnxcam.image.overlay import overlay
from onnxcam.image.png import encode_png

SIDES = st.tuples(st.integers(1, 20), st.integers(1, 20), st.just(3))


def decoded(content: bytes) -> Image.Image:
    with Image.open(BytesIO(content)) as image:
        image.verify()  # the checksums of all chunks
    return Image.open(BytesIO(content))


@settings(max_examples=100, derandomize=True, deadline=None, database=None)
@given(pixels=arrays(np.uint8, SIDES))
def test_decoded_file_is_the_image(pixels: NDArray[np.uint8]) -> None:
    image = decoded(encode_png(Image.fromarray(pixels)))
    assert (image.format, image.mode) == ("PNG", "RGB")
    np.testing.assert_array_equal(image, pixels)


def test_random_pixels_of_any_row_are_the_image() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (37, 53, 3), np.uint8)
    np.testing.assert_array_equal(decoded(encode_png(Image.fromarray(pixels))), pixels)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "1"])
def test_other_modes_are_stored_in_rgb(mode: str) -> None:
    image = Image.linear_gradient("L").convert(mode)
    np.testing.assert_array_equal(decoded(encode_png(image)), image.convert("RGB"))


def test_file_is_little_larger_than_that_of_a_slow_search() -> None:
    y, x = np.mgrid[0:240, 0:320]
    waves = 128 + 60 * np.sin(x / 17) * np.cos(y / 23)
    grain = np.random.default_rng(0).normal(0, 6, (240, 320, 3))
    photo = Image.fromarray(np.clip(waves[..., np.newaxis] + grain, 0, 255).astype(np.uint8))
    drawn = overlay(photo, np.eye(7), (0, 0, 320, 240), opacity=0.6)
    slow = BytesIO()
    drawn.save(slow, format="PNG", optimize=True)
    assert len(encode_png(drawn)) < 1.25 * len(slow.getvalue())


def test_even_areas_take_no_space() -> None:
    assert len(encode_png(Image.new("RGB", (640, 480), "white"))) < 6000
