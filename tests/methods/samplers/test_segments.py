"""Segments of an image, and subsets of them."""

import sys
from dataclasses import fields
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import onnxcam
from onnxcam.arrays import Floats
from onnxcam.methods.samplers import CleanRun
from onnxcam.methods.samplers.segments import find_segments, grid_segments, mean_colors
from onnxcam.methods.samplers.subsets import draw_subsets
from onnxcam.specs import Layer
from tests.support.nets import DEEP, random_images


def clean_run(image: Floats, axis: int = 1) -> CleanRun:
    """Of an image between -1, which is black, and 3, which is white."""
    unknown: dict[str, Any] = dict.fromkeys(field.name for field in fields(CleanRun))
    layer = Layer("x", "", image.shape, axis, is_bottleneck=True)
    known = {"image": image, "values": image, "layer": layer, "aspect_ratio": 1.0}

    def color(level: float) -> Floats:
        return np.full((1, 1, 1, 1), 4 * level - 1)

    return CleanRun(**{**unknown, **known, "color": color})


@pytest.fixture
def without_skimage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "skimage.segmentation", None)


@pytest.fixture
def with_stripes(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """A scikit-image that returns vertical stripes, numbered 3, 6, …; what it was called with."""
    calls: list[dict[str, Any]] = []

    def slic(image: Floats, **options: Any) -> Floats:
        calls.append({"image": image, **options})
        height, width = image.shape[:2]
        return np.tile(np.arange(width) // 2 * 3 + 3, (height, 1))

    module = ModuleType("skimage.segmentation")
    module.slic = slic  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "skimage", ModuleType("skimage"))
    monkeypatch.setitem(sys.modules, "skimage.segmentation", module)
    return calls


@pytest.mark.parametrize(
    ("size", "count", "grid"),
    [((8, 8), 9, (3, 3)), ((8, 8), 50, (7, 7)), ((4, 16), 16, (2, 8)), ((2, 3), 100, (2, 3))],
)
def test_grid_has_nearly_square_cells(
    size: tuple[int, int], count: int, grid: tuple[int, int]
) -> None:
    labels = grid_segments(size, count)
    assert labels.shape == size
    assert sorted({*labels.ravel().tolist()}) == [*range(grid[0] * grid[1])]
    for label in np.unique(labels):
        rows, columns = np.nonzero(labels == label)
        assert len(rows) == (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
        assert np.ptp(rows) + 1 in (size[0] // grid[0], -(-size[0] // grid[0]))
        assert np.ptp(columns) + 1 in (size[1] // grid[1], -(-size[1] // grid[1]))


def test_superpixels_get_colors_of_the_image(with_stripes: list[dict[str, Any]]) -> None:
    image = 4 * random_images(1, (3, 4, 6)).clip(0, 1) - 1
    labels, notices = find_segments(clean_run(image), "slic", 5)
    assert notices == ()
    assert labels.tolist() == [[0, 0, 1, 1, 2, 2]] * 4
    (call,) = with_stripes
    assert call["n_segments"] == 5
    np.testing.assert_allclose(call["image"], (image[0].transpose(1, 2, 0) + 1) / 4)


def test_superpixels_of_channels_last_are_the_same(with_stripes: list[dict[str, Any]]) -> None:
    image = random_images(1, (3, 4, 6))
    find_segments(clean_run(image), "slic", 7)
    find_segments(clean_run(image.transpose(0, 2, 3, 1), 3), "slic", 7)
    np.testing.assert_array_equal(*(call["image"] for call in with_stripes))


def test_segments_have_several_pixels() -> None:
    """The mean color of a pixel is its own, so that it could not be hidden."""
    labels, _ = find_segments(clean_run(random_images(1, (3, 6, 6))), "grid", 50)
    assert len(np.unique(labels)) == 9
    tiny, _ = find_segments(clean_run(random_images(1, (3, 1, 2))), "grid", 50)
    assert not tiny.any()


def test_image_with_one_superpixel_gets_grid_and_notice(
    with_stripes: list[dict[str, Any]],
) -> None:
    labels, (notice,) = find_segments(clean_run(random_images(1, (3, 8, 2))), "slic", 4)
    np.testing.assert_array_equal(labels, grid_segments((8, 2), 4))
    assert "a single superpixel" in notice
    one, notices = find_segments(clean_run(random_images(1, (3, 8, 2))), "slic", 1)
    assert not one.any()
    assert notices == ()


def test_missing_package_gives_grid_and_notice(without_skimage: None) -> None:
    labels, (notice,) = find_segments(clean_run(random_images(1, (3, 8, 8))), "slic", 9)
    np.testing.assert_array_equal(labels, grid_segments((8, 8), 9))
    assert "pip install 'onnxcam[superpixels]'" in notice
    assert "segments=" not in notice  # not all that segment an image have this setting


def test_missing_package_is_said_by_explanation(without_skimage: None) -> None:
    for segments, says in (("slic", True), ("grid", False)):
        explainer = onnxcam.Explainer(
            DEEP.content(), "lime", device="cpu", samples=9, segments=segments
        )
        notices = " ".join(explainer(random_images(2), 1).notices)
        assert ("scikit-image is not installed" in notices) is says
        assert ("or choose the grid (segments=grid)" in notices) is says


def test_images_with_different_numbers_of_segments_run_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As alone."""

    def segments(clean: CleanRun, *_: Any) -> Any:
        return grid_segments((8, 8), 4 if clean.image.mean() < middle else 16), ()

    monkeypatch.setattr("onnxcam.methods.samplers.subsets.find_segments", segments)
    x = random_images(3)
    middle = np.sort(x.mean(axis=(1, 2, 3)))[1]
    explainer = onnxcam.Explainer(DEEP.content(), "lime", device="cpu", samples=3)
    together = explainer(x, 1).maps
    assert len({len(np.unique(saliency)) for saliency in together}) > 1
    np.testing.assert_allclose([explainer(image, 1).maps[0] for image in x], together, atol=1e-6)


def test_hidden_segments_have_their_mean_color() -> None:
    image = random_images(1, (3, 4, 6)).astype(np.float64)
    labels = grid_segments((4, 6), 6)
    means = mean_colors(clean_run(image), labels)
    last = mean_colors(clean_run(image.transpose(0, 2, 3, 1), 3), labels)
    np.testing.assert_array_equal(last, means.transpose(0, 2, 3, 1))
    for label in range(6):
        for channel in range(3):
            of_segment = means[0, channel][labels == label]
            np.testing.assert_allclose(of_segment, image[0, channel][labels == label].mean())


def test_first_subset_is_the_image_and_others_are_half_of_it() -> None:
    shown = draw_subsets(2000, 10, 0)
    assert shown[0].all()
    assert shown[1:].mean(axis=0) == pytest.approx(0.5, abs=0.05)
    np.testing.assert_array_equal(draw_subsets(20, 10, 0), shown[:20])
    assert (draw_subsets(2000, 10, 1) != shown).mean() == pytest.approx(0.5, abs=0.05)


@pytest.mark.oracle
def test_superpixels_of_scikit_image_follow_colors() -> None:
    pytest.importorskip("skimage")
    image = np.full((1, 3, 32, 32), -1.0)
    image[:, 0, :, 11:] = 3.0  # an edge that no grid has
    labels, _ = find_segments(clean_run(image), "slic", 8)
    assert not {*labels[:, :11].ravel().tolist()} & {*labels[:, 11:].ravel().tolist()}
    assert 4 <= labels.max() + 1 <= 16
