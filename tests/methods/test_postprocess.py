"""Resizing maps is bilinear as in image libraries, and fusing them uses the finest grid."""

import numpy as np
import pytest
from PIL import Image

from onnxcam.arrays import Floats
from onnxcam.methods.postprocess import (
    are_empty,
    divide_by_max,
    fuse_maps,
    interpolate_axis,
    resize_bilinear,
)


def resize_slowly(saliency: Floats, height: int, width: int) -> Floats:
    """Bilinear interpolation between cell centers, one pixel at a time; constant beyond the outermost ones."""
    h, w = saliency.shape
    resized = np.zeros((height, width))
    for y in range(height):
        for x in range(width):
            v = min(max((y + 0.5) * h / height - 0.5, 0.0), h - 1.0)
            u = min(max((x + 0.5) * w / width - 0.5, 0.0), w - 1.0)
            top, left = int(np.floor(v)), int(np.floor(u))
            low, right = min(top + 1, h - 1), min(left + 1, w - 1)
            b, a = v - top, u - left
            resized[y, x] = (1 - b) * ((1 - a) * saliency[top, left] + a * saliency[top, right])
            resized[y, x] += b * ((1 - a) * saliency[low, left] + a * saliency[low, right])
    return resized


@pytest.mark.parametrize("size", [(8, 8), (4, 5), (1, 1), (13, 3), (2, 20), (3, 2)])
@pytest.mark.parametrize("shape", [(2, 4, 5), (1, 1, 1), (3, 7, 2)])
def test_resize_is_bilinear(shape: tuple[int, ...], size: tuple[int, int]) -> None:
    maps = np.random.default_rng(0).random(shape)
    resized = resize_bilinear(maps, *size)
    assert resized.shape == (shape[0], *size)
    for actual, saliency in zip(resized, maps, strict=True):
        expected = resize_slowly(saliency, *size)
        np.testing.assert_allclose(actual, expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("size", [(14, 14), (15, 9), (56, 70)])
def test_enlarging_agrees_with_pillow(size: tuple[int, int]) -> None:
    saliency = np.random.default_rng(1).random((7, 5)).astype(np.float32)
    expected = Image.fromarray(saliency).resize(size[::-1], Image.Resampling.BILINEAR)
    np.testing.assert_allclose(
        resize_bilinear(saliency[None], *size)[0], np.asarray(expected), rtol=1e-5, atol=1e-6
    )


def test_resize_of_two_cells() -> None:
    np.testing.assert_allclose(
        resize_bilinear(np.array([[[0.0, 1.0]]]), 1, 4), [[[0.0, 0.25, 0.75, 1.0]]], rtol=1e-15
    )


def test_resize_keeps_ends_and_range() -> None:
    maps = np.random.default_rng(2).random((2, 6, 6))
    resized = resize_bilinear(maps, 50, 40)
    np.testing.assert_allclose(resized[:, 0, 0], maps[:, 0, 0])
    np.testing.assert_allclose(resized[:, -1, -1], maps[:, -1, -1])
    assert resized.min() >= maps.min()
    assert resized.max() <= maps.max() * (1 + 1e-12)


@pytest.mark.parametrize(("size", "new_size"), [(7, 224), (5, 3), (1, 9), (4, 4)])
def test_interpolation_weights_sum_to_one(size: int, new_size: int) -> None:
    np.testing.assert_allclose(
        interpolate_axis(np.eye(size), 0, new_size).sum(axis=1), 1.0, rtol=1e-14
    )


def test_same_size_returns_same_map() -> None:
    maps = np.random.default_rng(3).random((2, 6, 7))
    np.testing.assert_array_equal(resize_bilinear(maps, 6, 7), maps)


def test_divide_by_max_does_not_shift() -> None:
    maps = np.array([[[1.0, 2.0], [3.0, 4.0]], [[0.0, 0.0], [0.0, 0.0]], [[1e-30, 0], [0, 0]]])
    np.testing.assert_array_equal(
        divide_by_max(maps), [[[0.25, 0.5], [0.75, 1.0]], [[0, 0], [0, 0]], [[1, 0], [0, 0]]]
    )


def test_maps_without_positive_cells_are_empty() -> None:
    maps = np.zeros((3, 2, 2))
    maps[1, 0, 1] = 1e-30
    maps[2] = -1
    assert are_empty(maps).tolist() == [True, False, True]


def test_signed_maps_with_negative_cells_only_are_not_empty() -> None:
    maps = np.zeros((3, 2, 2))
    maps[1, 0, 1] = -1e-30
    maps[2] = 1
    assert are_empty(maps, signed=True).tolist() == [True, False, False]


@pytest.mark.parametrize("how", ["max", "mean"])
def test_fuse_maps_scales_and_resizes_to_finest_grid(how: str) -> None:
    draw = np.random.default_rng(4)
    coarse, fine = draw.random((2, 3, 2)), 1e6 * draw.random((2, 4, 6))
    fused = fuse_maps([coarse, fine], how)
    for i in range(2):
        first = resize_slowly(coarse[i] / coarse[i].max(), 4, 6)
        second = fine[i] / fine[i].max()
        expected = np.maximum(first, second) if how == "max" else (first + second) / 2
        np.testing.assert_allclose(fused[i], expected, rtol=1e-12)


def test_fuse_maps_takes_finest_size_of_both_axes() -> None:
    assert fuse_maps([np.ones((1, 2, 8)), np.ones((1, 6, 3))], "max").shape == (1, 6, 8)


def test_fuse_maps_ignores_empty_layer() -> None:
    fine = np.random.default_rng(5).random((1, 4, 4))
    np.testing.assert_array_equal(
        fuse_maps([fine, np.zeros((1, 2, 2))], "max"), divide_by_max(fine)
    )
