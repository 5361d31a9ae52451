"""What a model says about images at all positions, and the targets that are chosen among them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from onnxcam.arrays import Floats, Images, Scores
from onnxcam.defaults import LEAST, MOST
from onnxcam.dense import Dense
from onnxcam.errors import PlaceError
from onnxcam.explain.dense_labels import with_labels
from onnxcam.explain.explanation import ExplainedImage
from onnxcam.explain.probabilities import Probabilities, sigmoid, softmax
from onnxcam.explain.references import load_numbers
from onnxcam.explain.run import Runner
from onnxcam.heads.boxes.decode import decode_boxes
from onnxcam.heads.boxes.suppression import best_detections
from onnxcam.image.geometry import Box, Geometry
from onnxcam.image.read import read_mask
from onnxcam.methods.place import IMAGE
from onnxcam.specs import PlanRequest, infer_grid
from onnxcam.targets.classes import Spec
from onnxcam.targets.target import Target
from onnxcam.targets.where.place import DenseView
from onnxcam.targets.where.read import list_targets, read_target

MOST_DETECTIONS = 300  # of an image, that can be numbered


def answers_request(request: PlanRequest) -> PlanRequest:
    """What asks for the answers to a request."""
    return PlanRequest(
        "default", (), at=IMAGE, output=request.output, answers=True, head=request.head
    )


@dataclass(frozen=True)
class Answers:
    """Asks a model for its scores at all positions. `least` and `most` are the smallest probability and the
    largest number of the targets that `all` stands for.
    """

    runner: Runner
    labels: tuple[str, ...] | None
    least: float = LEAST
    most: int = MOST

    @property
    def dense(self) -> Dense:
        """What the scores are."""
        assert self.runner.plan.dense is not None  # noqa: S101  the plan of answers has them
        return with_labels(self.runner.plan.dense, self.labels)

    @property
    def _is_single(self) -> bool:
        """Whether boxes have no batch axis in front, so that they are decoded image by image."""
        boxes = self.dense.boxes
        return boxes is not None and any(columns.batch_axis != 0 for columns in boxes.columns)

    def targets(
        self, images: Images, specs: Sequence[Spec], shown: Sequence[ExplainedImage]
    ) -> list[Target]:
        """The target of each image (N, ...), and which positions count for it."""
        return [
            self._with_all_classes(read_target(spec, view))
            for spec, view in zip(specs, self.views(images, shown), strict=True)
        ]

    def expand(self, image: Images, shown: ExplainedImage) -> list[str]:
        """The targets that `all` stands for, of one image (1, ...). TargetError if there are none."""
        (view,) = self.views(image, [shown])
        if targets := list_targets(view, self.least, self.most):
            return targets
        best = list_targets(view, -np.inf, 1)
        hint = f"the best is {best[0]}; lower --min-score" if best else "there are none at all"
        raise PlaceError(
            f"target 'all': nothing in {shown.name} has a probability of {self.least:g} or more: {hint}"
        )

    def views(self, images: Images, shown: Sequence[ExplainedImage]) -> list[DenseView]:
        """What the model says about each image (N, ...)."""
        if len(images) > 1 and self._is_single:
            rows = range(len(images))
            return [view for n in rows for view in self.views(images[n : n + 1], shown[n : n + 1])]
        size = self.runner.plan.image.size_of(images)
        images = images.astype(self.runner.plan.image_dtype, copy=False)
        none = np.zeros((len(images), self.runner.plan.score.classes))  # no gradient is asked for
        clean = self.runner.clean(images, none)
        self.runner.require_finite_scores(clean.scores)
        count = len(images)
        boxes: Sequence[Floats | None] = [None] * count
        if self.dense.boxes is not None:
            boxes = [*decode_boxes(self.dense.boxes, clean.beside, size)]
        return [self._view(clean.scores[n], boxes[n], shown[n], size) for n in range(count)]

    def _view(
        self, flat: Scores, boxes: Floats | None, shown: ExplainedImage, size: tuple[int, int]
    ) -> DenseView:
        dense, height, width = self.dense, *size
        scores = np.asarray(flat.reshape(dense.classes, -1), np.float64)
        cells = dense.grid and infer_grid(dense.grid, scores.shape[1], height / width)
        return DenseView(
            dense,
            scores,
            _probabilities(scores, dense.activation or dense.assumed_activation),
            shown.box,
            cells,
            boxes=None if boxes is None else _to_image(boxes, shown.box, size),
            labels=self.labels,
            suppress=partial(best_detections, count=MOST_DETECTIONS, min_score=-np.inf),
            read_mask=partial(_read_mask, shown),
            cover=partial(_cover, shown.box, cells or (1, 1)),
        )

    def _with_all_classes(self, target: Target) -> Target:
        """The target with as many classes in its positions as the model expects."""
        assert target.where is not None  # noqa: S101  it was read for a model with positions
        shape = (self.dense.where_classes, target.where.shape[1])
        return replace(target, where=np.broadcast_to(target.where, shape))


def _probabilities(scores: Probabilities, activation: str | None) -> Floats:
    """(classes, positions): the probabilities of scores, or the scores themselves if they have none."""
    if activation is None:
        return scores
    return sigmoid(scores) if activation == "Sigmoid" else softmax(scores.T).T


def _to_image(boxes: Floats, shown: Box, size: tuple[int, int]) -> Floats:
    """Boxes in pixels of the model's input (height, width) as boxes in pixels of the image."""
    left, top, right, bottom = shown
    scale = np.array([(right - left) / size[1], (bottom - top) / size[0]] * 2)
    return np.asarray(boxes * scale + np.array([left, top] * 2))


def _cover(shown: Box, grid: tuple[int, int], mask: NDArray[np.bool_]) -> Floats:
    """(rows, columns): how much of each cell a mask of the image covers."""
    rows, columns = grid
    return Geometry(mask.shape[::-1], (columns, rows), shown).mask_to_tensor(mask)


def _read_mask(shown: ExplainedImage, name: str) -> NDArray[np.bool_]:
    """The pixels of a mask that are not 0. PlaceError for one of another size than the image's."""
    width, height = shown.image.size
    is_array = Path(name).suffix.lower() == ".npy"
    mask = load_numbers(name) != 0 if is_array else read_mask(name)
    mask = mask.any(axis=2) if mask.ndim == 3 else mask
    if mask.shape != (height, width):
        raise PlaceError(
            f"mask {name}: {' x '.join(map(str, mask.shape))} pixels (height x width); expected those of "
            f"{shown.name}, {height} x {width}"
        )
    return np.asarray(mask)
