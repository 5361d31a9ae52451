"""Scenes of several objects, and what detectors are measured with, against values known by construction."""

from pathlib import Path

import numpy as np
import pytest

from scripts.shapes.average_precision import Detections, average_precisions, detect, overlaps
from scripts.shapes.model_card import write_section
from scripts.shapes.scenes import Scene, draw_labels, draw_scene

SEEDS = range(20)


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    generators = [np.random.default_rng(seed) for seed in SEEDS]
    return [draw_scene(rng, 96, draw_labels(rng, 6), is_textured=False) for rng in generators]


def test_same_seed_draws_the_same_scene() -> None:
    first, second = (draw_scene(np.random.default_rng(3), 96, [0, 4, 4]) for _ in range(2))
    np.testing.assert_array_equal(first.pixels, second.pixels)
    np.testing.assert_array_equal(first.masks, second.masks)


def test_scene_has_documented_shapes(scenes: list[Scene]) -> None:
    for scene in scenes:
        count = len(scene.labels)
        assert 1 <= count <= 6
        assert scene.pixels.shape == (96, 96, 3)
        assert scene.masks.shape == (count, 96, 96)
        assert scene.boxes.shape == (count, 4)


def test_masks_are_disjoint_and_large_enough_to_see(scenes: list[Scene]) -> None:
    for scene in scenes:
        assert scene.masks.sum(axis=0).max() == 1
        assert scene.masks.sum(axis=(1, 2)).min() >= 40


def test_boxes_are_the_tightest_around_the_masks(scenes: list[Scene]) -> None:
    for scene in scenes:
        for mask, (x0, y0, x1, y1) in zip(scene.masks, scene.boxes.astype(int), strict=True):
            inside = mask[y0:y1, x0:x1]
            assert inside.sum() == mask.sum()
            edges = (inside[0], inside[-1], inside[:, 0], inside[:, -1])
            assert all(edge.any() for edge in edges)


def test_label_map_names_the_class_of_each_pixel() -> None:
    scene = draw_scene(np.random.default_rng(1), 64, [3, 7], is_textured=False)
    assert set(np.unique(scene.label_map)) == {0, 4, 8}
    np.testing.assert_array_equal(scene.label_map == 4, scene.masks[0])


@pytest.mark.parametrize("label", [0, 9])
def test_requested_classes_are_drawn_in_order(label: int) -> None:
    scene = draw_scene(np.random.default_rng(0), 96, [label, 5], is_textured=False)
    np.testing.assert_array_equal(scene.labels, [label, 5])


def test_overlap_of_shifted_boxes_is_a_third() -> None:
    boxes = np.array([[0.0, 0, 2, 1], [1, 0, 3, 1], [5, 5, 6, 6]])
    np.testing.assert_allclose(overlaps(boxes[:1], boxes)[0], [1, 1 / 3, 0])


def test_worse_box_of_the_same_object_is_dropped() -> None:
    columns = [
        [5, 5, 4, 4, 0.9, 0],
        [5, 5.2, 4, 4, 0.8, 0],
        [5, 5, 4, 4, 0, 0.7],
        [9, 9, 2, 2, 0.6, 0],
    ]
    detections = detect(np.array(columns).T)
    np.testing.assert_allclose(detections.scores, [0.9, 0.7, 0.6])
    np.testing.assert_array_equal(detections.labels, [0, 1, 0])
    np.testing.assert_allclose(detections.boxes[0], [3, 3, 7, 7])


def test_average_precision_counts_missed_and_false_boxes() -> None:
    """Two objects; the best box is right, the second is nowhere, the third finds the other object."""
    truths = [(np.array([[0.0, 0, 10, 10], [20, 20, 30, 30]]), np.array([0, 0]))]
    boxes = np.array([[0.0, 0, 10, 9], [50, 50, 60, 60], [20, 20, 30, 31]])
    detections = Detections(boxes, np.array([0, 0, 0]), np.array([0.9, 0.8, 0.7]))
    assert average_precisions([detections], truths, 1) == pytest.approx([0.5 + 0.5 * 2 / 3])


def test_second_box_of_an_object_is_false() -> None:
    truths = [(np.array([[0.0, 0, 10, 10]]), np.array([0]))] * 2
    boxes = np.array([[0.0, 0, 10, 10], [0, 0, 10, 9]])
    twice = Detections(boxes, np.array([0, 0]), np.array([0.9, 0.8]))
    once = Detections(boxes[:1], np.array([0]), np.array([0.7]))
    assert average_precisions([twice, once], truths, 1) == pytest.approx([0.5 + 0.5 * 2 / 3])


def test_section_replaces_the_one_of_the_same_name(tmp_path: Path) -> None:
    for name, text in (("first", "one"), ("second", "two"), ("first", "three")):
        write_section(tmp_path, name, text)
    lines = (tmp_path / "README.md").read_text().splitlines()
    assert [line for line in lines if line in ("one", "two", "three")] == ["three", "two"]
    assert lines.count("") == 3
