"""The average precision of a detector at an overlap of one half: the mAP50 of its classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Boxes = NDArray[np.floating]  # (K, 4) of x0, y0, x1, y1


@dataclass(frozen=True)
class Detections:
    """What a detector says about one image: boxes (K, 4), their classes (K,) and scores (K,)."""

    boxes: Boxes
    labels: NDArray[np.int64]
    scores: NDArray[np.floating]


def detect(
    numbers: NDArray[np.floating], least: float = 0.01, overlap: float = 0.6, most: int = 100
) -> Detections:
    """The detections in an output (4 + C, n) of centers, sizes and scores, class by class without those that
    overlap a better one by more than `overlap`.
    """
    scores = numbers[4:]
    labels, columns = np.nonzero(scores > least)
    order = np.argsort(-scores[labels, columns], kind="stable")
    labels, columns = labels[order], columns[order]
    centers, sizes = numbers[:2, columns].T, numbers[2:4, columns].T
    boxes = np.concatenate((centers - sizes / 2, centers + sizes / 2), axis=1)
    kept: list[int] = []
    for row in range(len(boxes)):
        rivals = [index for index in kept if labels[index] == labels[row]]
        if len(kept) < most and not (overlaps(boxes[[row]], boxes[rivals]) > overlap).any():
            kept.append(row)
    return Detections(boxes[kept], labels[kept], scores[labels[kept], columns[kept]])


def overlaps(boxes: Boxes, others: Boxes) -> NDArray[np.floating]:
    """The IoU (K, L) of every box with every other one."""
    first = np.maximum(boxes[:, None, :2], others[None, :, :2])
    last = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    inner = np.clip(last - first, 0, None).prod(axis=2)
    areas, other_areas = ((b[:, 2:] - b[:, :2]).prod(axis=1) for b in (boxes, others))
    return np.asarray(inner / (areas[:, None] + other_areas[None] - inner))


def average_precisions(
    detections: Sequence[Detections],
    truths: Sequence[tuple[Boxes, NDArray[np.int64]]],
    classes: int,
    overlap: float = 0.5,
) -> list[float]:
    """The area under the curve of precision against recall, for each class.

    A detection is right if it overlaps an object of its class enough that no better detection has taken; the
    precision at a recall is the best one at this or a higher recall (all points, as of VOC 2010 and later).

    Args:
        detections: one an image.
        truths: boxes (K, 4) and classes (K,) of the objects of the same images.
        classes: how many.
        overlap: the least IoU.
    """
    pairs = list(zip(detections, truths, strict=True))
    return [_average_precision(pairs, label, overlap) for label in range(classes)]


def _average_precision(
    pairs: Sequence[tuple[Detections, tuple[Boxes, NDArray[np.int64]]]], label: int, overlap: float
) -> float:
    scores, are_right, objects = [], [], 0
    for detection, (boxes, labels) in pairs:
        chosen = detection.labels == label
        objects += int((labels == label).sum())
        scores.append(detection.scores[chosen])
        are_right.append(_match(detection.boxes[chosen], boxes[labels == label], overlap))
    order = np.argsort(-np.concatenate(scores), kind="stable")
    hits = np.concatenate(are_right)[order].cumsum()
    precision = hits / np.arange(1, len(hits) + 1)
    best = np.maximum.accumulate(precision[::-1])[::-1]
    return float((best * np.diff(hits, prepend=0)).sum() / objects)


def _match(boxes: Boxes, truths: Boxes, overlap: float) -> NDArray[np.bool_]:
    """(K,): which of the boxes, the best first, are right."""
    are_right = np.zeros(len(boxes), bool)
    is_free = np.ones(len(truths), bool)
    for row, ratios in enumerate(overlaps(boxes, truths)):
        ratios = np.where(is_free, ratios, 0.0)
        if len(ratios) and ratios.max() >= overlap:
            are_right[row], is_free[ratios.argmax()] = True, False
    return are_right
