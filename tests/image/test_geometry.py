"""Pixels of an image and of the tensor correspond as the preprocessing moves them."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from onnxcam.image.geometry import FITS, Fit, Geometry, Size, place
from onnxcam.image.preprocess import Preprocessing, prepare
from onnxcam.specs import ImageInput

SIDES = st.tuples(st.integers(1, 300), st.integers(1, 300))


def geometry(image: Size, tensor: Size, fit: Fit, crop_ratio: float = 0.875) -> Geometry:
    return Geometry(image, tensor, place(image, tensor, fit, crop_ratio).box(tensor))


def prepared(image: Image.Image, tensor: Size, fit: Fit) -> Any:
    """(height, width) of a gray image, 0 to 255."""
    takes = ImageInput("x", "NCHW", 1, tensor[1], tensor[0], 1, np.dtype("float64"))
    return prepare(image, Preprocessing(1.0, fit=fit, pad=(0.0,)), takes).tensor[0, 0]


@settings(max_examples=200, derandomize=True, deadline=None, database=None)
@given(image=SIDES, tensor=SIDES, fit=st.sampled_from(FITS), ratio=st.floats(0.1, 1))
def test_coordinates_there_and_back_are_the_same(
    image: Size, tensor: Size, fit: Fit, ratio: float
) -> None:
    places = geometry(image, tensor, fit, ratio)
    points = np.random.default_rng(0).uniform(-50, 350, (2, 5, 2))
    np.testing.assert_allclose(places.to_image(places.to_tensor(points)), points, atol=1e-6)
    boxes = points.reshape(5, 4)
    np.testing.assert_allclose(places.to_tensor(boxes)[:, 2:], places.to_tensor(boxes[:, 2:]))
    np.testing.assert_allclose(
        places.to_image([0, 0, *tensor]), places.box, atol=1e-9 * max(*image, *tensor)
    )


@settings(max_examples=200, derandomize=True, deadline=None, database=None)
@given(image=SIDES, tensor=SIDES)
def test_letterbox_keeps_the_proportions_and_all_of_the_image(image: Size, tensor: Size) -> None:
    for fit in ("letterbox", "letterbox-corner"):
        left, top, right, bottom = geometry(image, tensor, fit).to_tensor([0, 0, *image])
        assert left >= 0
        assert top >= 0
        assert right <= tensor[0] + 1e-9
        assert bottom <= tensor[1] + 1e-9
        scale = min(tensor[0] / image[0], tensor[1] / image[1])
        assert abs(right - left - max(1, scale * image[0])) <= 1
        assert abs(bottom - top - max(1, scale * image[1])) <= 1
        if fit == "letterbox":
            assert 0 <= round((tensor[0] - right) - left) <= 1
            assert 0 <= round((tensor[1] - bottom) - top) <= 1
        else:
            assert (left, top) == (0, 0)


@pytest.mark.parametrize(
    ("image", "tensor", "box"),
    [  # (width, height); computed by hand from LetterBox of Ultralytics
        ((640, 480), (640, 640), (0, 80, 640, 560)),
        ((1280, 720), (640, 640), (0, 140, 640, 500)),
        ((720, 1280), (640, 640), (140, 0, 500, 640)),
        ((101, 100), (50, 53), (0, 1, 50, 51)),  # of a rest of 3 pixels, 1 is above and 2 are below
        ((30, 30), (64, 96), (0, 16, 64, 80)),
    ],
)
def test_letterbox_is_that_of_yolo(image: Size, tensor: Size, box: tuple[float, ...]) -> None:
    shown = geometry(image, tensor, "letterbox").to_tensor([0, 0, *image])
    np.testing.assert_allclose(shown, box, atol=1e-9)


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize(
    ("size", "tensor"),
    [((400, 300), (96, 96)), ((300, 401), (96, 64)), ((60, 31), (128, 120)), ((50, 50), (50, 50))],
)
def test_marked_block_is_where_the_geometry_says(fit: Fit, size: Size, tensor: Size) -> None:
    places = geometry(size, tensor, fit)
    for x, y in ((0.5, 0.5), (0.35, 0.6), (0.6, 0.3)):
        left, top = int(x * size[0]), int(y * size[1])
        pixels = np.zeros((size[1], size[0], 3), np.uint8)
        pixels[top : top + 6, left : left + 6] = 255
        tensor_pixels = prepared(Image.fromarray(pixels), tensor, fit)
        center = places.to_tensor([left + 3, top + 3])
        rows, columns = np.indices(tensor_pixels.shape) + 0.5
        mean = [np.average(axis, weights=tensor_pixels) for axis in (columns, rows)]
        np.testing.assert_allclose(mean, center, atol=0.1)
        back = places.to_image(mean)
        np.testing.assert_allclose(back, [left + 3, top + 3], atol=0.5)


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize(("size", "tensor"), [((90, 60), (24, 24)), ((31, 47), (16, 40))])
def test_mask_covers_pixels_as_their_area_says(fit: Fit, size: Size, tensor: Size) -> None:
    """Against 40 x 40 points in each pixel of the tensor."""
    mask = np.random.default_rng(0).random((size[1], size[0])) < 0.3
    places = geometry(size, tensor, fit)
    steps = 40
    x, y = ((np.arange(side * steps) + 0.5) / steps for side in tensor)
    points = np.stack(np.meshgrid(x, y), axis=-1)
    at = np.floor(places.to_image(points)).astype(int)
    inside = ((at >= 0) & (at < size)).all(axis=-1)
    at = np.clip(at, 0, np.array(size) - 1)
    hits = (mask[at[..., 1], at[..., 0]] & inside).reshape(tensor[1], steps, tensor[0], steps)
    covered = places.mask_to_tensor(mask)
    assert covered.shape == (tensor[1], tensor[0])
    np.testing.assert_allclose(covered, hits.mean(axis=(1, 3)), atol=0.05)


def test_mask_of_padding_is_empty() -> None:
    covered = geometry((80, 40), (32, 32), "letterbox").mask_to_tensor(np.ones((40, 80), bool))
    np.testing.assert_allclose(covered[8:24], 1)
    np.testing.assert_array_equal(covered[:8], 0)
    np.testing.assert_array_equal(covered[24:], 0)


@pytest.mark.parametrize("fit", FITS)
def test_map_is_interpolated_at_the_pixels_of_the_image(fit: Fit) -> None:
    """A map that is linear in x and y has the same values in the image, away from the edges of the tensor."""
    size, tensor = (90, 60), (32, 48)
    places = geometry(size, tensor, fit)
    x, y = ((np.arange(side) + 0.5) for side in tensor)
    values = places.map_to_image(3 * x + 7 * y[:, np.newaxis])
    assert values.shape == (60, 90)
    columns, rows = np.meshgrid(np.arange(90) + 0.5, np.arange(60) + 0.5)
    at = places.to_tensor(np.stack([columns, rows], axis=-1))
    is_inner = ((at > 0.5) & (at < np.array(tensor) - 0.5)).all(axis=-1)
    assert is_inner.mean() > 0.3
    np.testing.assert_allclose(values[is_inner], (3 * at[..., 0] + 7 * at[..., 1])[is_inner])
    is_outer = ((at < 0) | (at > np.array(tensor))).any(axis=-1)
    np.testing.assert_array_equal(values[is_outer], 0)


def test_coarse_map_fills_the_tensor() -> None:
    values = geometry((40, 20), (64, 64), "letterbox").map_to_image(np.arange(16.0).reshape(4, 4))
    assert values.shape == (20, 40)
    assert values[0, 0] == pytest.approx(4.0 - 4 * (0.5 - 0.05))
    assert values[19, 39] == pytest.approx(11 + 4 * (0.5 - 0.05))
