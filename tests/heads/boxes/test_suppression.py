"""Which detections are explained: the best of boxes that overlap."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxcam.arrays import Array, Floats
from onnxcam.heads.boxes.suppression import best_detections


def intersection_over_union(first: Floats, second: Floats) -> float:
    """Of two boxes x0, y0, x1, y1."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    intersection = max(width, 0.0) * max(height, 0.0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (first, second)]
    return float(intersection / (sum(areas) - intersection))


def greedy(boxes: Floats, scores: Floats, classes: Array, min_score: float) -> list[int]:
    """Take the best box, leave out those of its class that overlap it, and so on."""
    kept: list[int] = []
    for position in np.argsort(-scores, kind="stable").tolist():
        overlaps = (
            intersection_over_union(boxes[position], boxes[better]) > 0.5
            for better in kept
            if classes[better] == classes[position]
        )
        if scores[position] > min_score and not any(overlaps):
            kept.append(position)
    return kept


@given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.booleans())
def test_best_detections_are_those_of_a_slow_loop(seed: int, count: int, by_class: bool) -> None:
    generator = np.random.default_rng(seed)
    corners = generator.uniform(0, 60, (count, 2))
    boxes = np.concatenate([corners, corners + generator.uniform(5, 40, (count, 2))], axis=1)
    scores = generator.permutation(count) / count
    classes = generator.integers(0, 3, count) if by_class else np.zeros(count, int)
    best = best_detections(boxes, scores, count, 0.2, classes=classes if by_class else None)
    assert best.tolist() == greedy(boxes, scores, classes, 0.2)
    assert best_detections(boxes, scores, 3, 0.2, classes=classes).tolist() == best.tolist()[:3]


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_boxes_that_are_not_finite_are_left_out(number: float) -> None:
    boxes = np.array([[0, 0, number, 10], [0, 0, 5, 5]], np.float64)
    assert best_detections(boxes, np.array([0.9, 0.5]), 5, 0.1).tolist() == [1]


def test_nothing_above_minimum_score_gives_no_detections() -> None:
    boxes = np.array([[0, 0, 5, 5]], np.float64)
    assert best_detections(boxes, np.array([0.1]), 5, 0.1).tolist() == []
    assert best_detections(boxes[:0], np.zeros(0), 5, 0.1).tolist() == []
    assert best_detections(boxes, np.array([0.5]), 0, 0.1).tolist() == []
