"""The bundled detector: every object of new scenes is found and explained at its place, by default."""

from __future__ import annotations

from statistics import median
from typing import Any

import numpy as np
import pytest
from PIL import Image

import onnxcam
from onnxcam.bundled import bundled_detector, detector_image
from scripts.shapes.average_precision import overlaps
from scripts.shapes.drawing import CLASSES
from scripts.shapes.scenes import Scene, draw_labels, draw_scene

SIZE = 128
SEEDS = range(700, 708)


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    generators = [np.random.default_rng(seed) for seed in SEEDS]
    return [draw_scene(rng, SIZE, draw_labels(rng, 5)) for rng in generators]


@pytest.fixture(scope="module")
def explainer() -> onnxcam.Explainer:
    return onnxcam.Explainer(bundled_detector(), "grad-cam", device="cpu")


def explain_all(explainer: onnxcam.Explainer, scene: Scene) -> onnxcam.Explanation:
    return explainer(Image.fromarray(scene.pixels), "all")


def energy_ratio(saliency: Any, mask: Any) -> float:
    """The share of a map on a mask over the share of the mask in the image: 1 for a flat map."""
    return float(saliency[mask].sum() / saliency.sum() / mask.mean())


def test_all_objects_are_explained_once(explainer: onnxcam.Explainer, scenes: list[Scene]) -> None:
    matches = []
    for scene in scenes:
        explanation = explain_all(explainer, scene)
        boxes = np.array([mark.box for mark in explanation.marks])
        is_same_class = np.array(explanation.indices)[None] == scene.labels[:, None]
        matches.extend((is_same_class & (overlaps(scene.boxes, boxes) > 0.5)).sum(axis=1))
    assert np.mean(np.array(matches) == 1) >= 0.9


def test_map_of_a_detection_lies_on_its_object(
    explainer: onnxcam.Explainer, scenes: list[Scene]
) -> None:
    ratios = []
    for scene in scenes:
        explanation = explain_all(explainer, scene)
        boxes = np.array([mark.box for mark in explanation.marks])
        nearest = overlaps(boxes, scene.boxes).argmax(axis=1)
        for saliency, index in zip(explanation.maps, nearest, strict=True):
            ratios.append(energy_ratio(saliency, scene.masks[index]))
    assert median(ratios) >= 4


def test_second_star_is_another_one_than_the_first(explainer: onnxcam.Explainer) -> None:
    first, second = (explainer(str(detector_image()), target) for target in ("star", "star@box:2"))
    assert first.targets[0] == second.targets[0] == "star"
    assert first.scores[0] > second.scores[0]
    boxes = np.array([first.marks[0].box, second.marks[0].box])
    assert overlaps(boxes[:1], boxes[1:])[0, 0] == 0


def test_classes_of_the_metadata_are_those_of_the_scene(explainer: onnxcam.Explainer) -> None:
    explanation = explainer(str(detector_image()), "all")
    assert sorted(explanation.targets) == ["arrow", "disc", "heart", "ring", "star", "star"]
    assert set(explanation.targets) <= set(CLASSES)
