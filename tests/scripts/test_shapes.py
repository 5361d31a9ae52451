"""The generator of images keeps its promises: seeded, labeled by area, masks that fit."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.random import Generator

from scripts.shapes import drawing as shapes
from scripts.shapes.drawing import (
    CLASSES,
    MOST_DISTRACTOR,
    SIZE,
    TEXTURES,
    Plane,
    ShapeImage,
    Spot,
    Texture,
    draw,
    stamp,
)

SEEDS = range(40)


@pytest.fixture(scope="module")
def images() -> list[ShapeImage]:
    return [draw(np.random.default_rng(seed)) for seed in SEEDS]


def test_same_seed_draws_the_same_image(images: list[ShapeImage]) -> None:
    again = draw(np.random.default_rng(SEEDS[7]))
    assert again.label == images[7].label
    np.testing.assert_array_equal(again.pixels, images[7].pixels)
    np.testing.assert_array_equal(again.masks, images[7].masks)


def test_other_seed_draws_another_image(images: list[ShapeImage]) -> None:
    assert not np.array_equal(images[0].pixels, images[1].pixels)


def test_image_has_documented_shapes_and_dtypes(images: list[ShapeImage]) -> None:
    for image in images:
        assert image.pixels.shape == (SIZE, SIZE, 3)
        assert image.pixels.dtype == np.uint8
        assert image.masks.shape[1:] == image.distractors.shape[1:] == (SIZE, SIZE)
        assert image.masks.dtype == image.distractors.dtype == np.bool_
        assert 1 <= len(image.masks) <= 4
        assert len(image.distractors) == len(image.distractor_labels) <= 3


def test_masks_are_disjoint(images: list[ShapeImage]) -> None:
    for image in images:
        assert np.concatenate((image.masks, image.distractors)).sum(axis=0).max() <= 1


def test_label_covers_the_largest_area(images: list[ShapeImage]) -> None:
    for image in images:
        areas = image.distractors.sum(axis=(1, 2))
        assert (areas <= MOST_DISTRACTOR * image.masks.sum()).all()


def test_distractors_are_of_other_classes(images: list[ShapeImage]) -> None:
    for image in images:
        kinds = (image.label, *image.distractor_labels)
        assert len(set(kinds)) == len(kinds)


def test_every_object_is_large_enough_to_see(images: list[ShapeImage]) -> None:
    for image in images:
        assert min(mask.sum() for mask in (*image.masks, *image.distractors)) >= 60


def test_objects_stand_out(images: list[ShapeImage]) -> None:
    """The pixels of an object differ from those right around it."""
    for image in images:
        pixels = image.pixels / 255
        ground = np.concatenate((image.masks, image.distractors)).sum(axis=0) == 0
        for mask in image.masks:
            rows, columns = np.nonzero(mask)
            box = (slice(rows.min(), rows.max() + 1), slice(columns.min(), columns.max() + 1))
            inside, outside = pixels[box][mask[box]], pixels[box][ground[box]]
            distance = np.linalg.norm(inside - outside.mean(axis=0), axis=1)
            assert np.median(distance) > 0.2


@pytest.mark.parametrize("label", range(len(CLASSES)), ids=CLASSES)
def test_requested_label_is_drawn(label: int) -> None:
    assert draw(np.random.default_rng(label), label=label).label == label


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_requested_count_is_drawn(count: int) -> None:
    assert len(draw(np.random.default_rng(count), instances=count).masks) == count


def test_requested_range_of_counts_is_drawn() -> None:
    rng = np.random.default_rng(5)
    counts = {len(draw(rng, instances=(2, 4)).masks) for _ in range(30)}
    assert counts == {2, 3, 4}


@pytest.mark.parametrize("size", [64, 160])
def test_requested_size_is_drawn(size: int) -> None:
    image = draw(np.random.default_rng(0), size=size)
    assert image.pixels.shape == (size, size, 3)
    assert image.masks.shape[1:] == (size, size)


@pytest.mark.parametrize("label", range(len(CLASSES)), ids=CLASSES)
def test_masks_show_each_outline(label: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """At least 85 % of every object is inside the image and uncovered, in a crowd too."""
    drawn: list[float] = []

    def stamp_and_measure(rng: Generator, spot: Spot, size: int) -> Plane:
        wide = stamp(rng, replace(spot, x=spot.x + size, y=spot.y + size), 3 * size)
        drawn.append(float(wide.sum()))
        return wide[size : 2 * size, size : 2 * size]

    monkeypatch.setattr(shapes, "stamp", stamp_and_measure)
    image = draw(np.random.default_rng(label), label=label, instances=4)
    visible = [mask.sum() for mask in (*image.masks, *image.distractors)]
    np.testing.assert_array_less(0.85 * np.array(drawn), visible)


@pytest.mark.parametrize("texture", TEXTURES, ids=lambda texture: texture.__name__)
def test_textures_stay_in_range(texture: Texture) -> None:
    plane = texture(np.random.default_rng(0), 48)
    assert plane.shape == (48, 48)
    assert plane.min() >= 0
    assert plane.max() <= 1
