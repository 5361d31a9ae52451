"""Maps come to the size of the picture as every image library's bilinear does it."""

import numpy as np
import pytest
from PIL import Image

from onnxcam.arrays import Floats
from onnxcam.methods.postprocess import (
    divide_by_max,
    empty,
    fuse_maps,
    interpolate_axis,
    resize_bilinear,
)


def slow(one: Floats, height: int, width: int) -> Floats:
    """Bilinear interpolation between cell centres, one pixel at a time, ends held."""
    h, w = one.shape
    found = np.zeros((height, width))
    for y in range(height):
        for x in range(width):
            v = min(max((y + 0.5) * h / height - 0.5, 0.0), h - 1.0)
            u = min(max((x + 0.5) * w / width - 0.5, 0.0), w - 1.0)
            top, left = int(np.floor(v)), int(np.floor(u))
            low, right = min(top + 1, h - 1), min(left + 1, w - 1)
            b, a = v - top, u - left
            found[y, x] = (1 - b) * ((1 - a) * one[top, left] + a * one[top, right])
            found[y, x] += b * ((1 - a) * one[low, left] + a * one[low, right])
    return found


@pytest.mark.parametrize("size", [(8, 8), (4, 5), (1, 1), (13, 3), (2, 20), (3, 2)])
@pytest.mark.parametrize("shape", [(2, 4, 5), (1, 1, 1), (3, 7, 2)])
def test_resized_is_bilinear(shape: tuple[int, ...], size: tuple[int, int]) -> None:
    maps = np.random.default_rng(0).random(shape)
    found = resize_bilinear(maps, *size)
    assert found.shape == (shape[0], *size)
    for each, one in zip(found, maps, strict=True):
        np.testing.assert_allclose(each, slow(one, *size), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("size", [(14, 14), (15, 9), (56, 70)])
def test_upwards_it_is_what_pillow_does(size: tuple[int, int]) -> None:
    one = np.random.default_rng(1).random((7, 5)).astype(np.float32)
    shown = Image.fromarray(one).resize(size[::-1], Image.Resampling.BILINEAR)
    np.testing.assert_allclose(
        resize_bilinear(one[None], *size)[0], np.asarray(shown), rtol=1e-5, atol=1e-6
    )


def test_known_values() -> None:
    np.testing.assert_allclose(
        resize_bilinear(np.array([[[0.0, 1.0]]]), 1, 4), [[[0.0, 0.25, 0.75, 1.0]]], rtol=1e-15
    )


def test_ends_are_held_and_nothing_is_invented() -> None:
    maps = np.random.default_rng(2).random((2, 6, 6))
    found = resize_bilinear(maps, 50, 40)
    np.testing.assert_allclose(found[:, 0, 0], maps[:, 0, 0])
    np.testing.assert_allclose(found[:, -1, -1], maps[:, -1, -1])
    assert found.min() >= maps.min()
    assert found.max() <= maps.max() * (1 + 1e-12)


@pytest.mark.parametrize(("size", "wanted"), [(7, 224), (5, 3), (1, 9), (4, 4)])
def test_each_pixel_is_a_mean(size: int, wanted: int) -> None:
    np.testing.assert_allclose(
        interpolate_axis(np.eye(size), 0, wanted).sum(axis=1), 1.0, rtol=1e-14
    )


def test_the_same_size_is_the_same_map() -> None:
    maps = np.random.default_rng(3).random((2, 6, 7))
    np.testing.assert_array_equal(resize_bilinear(maps, 6, 7), maps)


def test_scaled_divides_by_the_maximum_and_never_shifts() -> None:
    maps = np.array([[[1.0, 2.0], [3.0, 4.0]], [[0.0, 0.0], [0.0, 0.0]], [[1e-30, 0], [0, 0]]])
    np.testing.assert_array_equal(
        divide_by_max(maps), [[[0.25, 0.5], [0.75, 1.0]], [[0, 0], [0, 0]], [[1, 0], [0, 0]]]
    )


def test_empty_maps_are_those_without_a_cell_above_zero() -> None:
    maps = np.zeros((3, 2, 2))
    maps[1, 0, 1] = 1e-30
    maps[2] = -1
    assert empty(maps).tolist() == [True, False, True]


@pytest.mark.parametrize("how", ["max", "mean"])
def test_fused_scales_then_brings_to_the_finest_grid(how: str) -> None:
    draw = np.random.default_rng(4)
    coarse, fine = draw.random((2, 3, 2)), 1e6 * draw.random((2, 4, 6))
    found = fuse_maps([coarse, fine], how)
    for i in range(2):
        first = slow(coarse[i] / coarse[i].max(), 4, 6)
        second = fine[i] / fine[i].max()
        expected = np.maximum(first, second) if how == "max" else (first + second) / 2
        np.testing.assert_allclose(found[i], expected, rtol=1e-12)


def test_grids_that_are_finest_in_one_direction_each() -> None:
    assert fuse_maps([np.ones((1, 2, 8)), np.ones((1, 6, 3))], "max").shape == (1, 6, 8)


def test_an_empty_layer_adds_nothing() -> None:
    fine = np.random.default_rng(5).random((1, 4, 4))
    np.testing.assert_array_equal(
        fuse_maps([fine, np.zeros((1, 2, 2))], "max"), divide_by_max(fine)
    )
