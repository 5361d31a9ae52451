"""The scores of a model at boxes, pixels, or steps, as plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from onnxcam.arrays import Array, Dim, Floats

DENSE = "onnxcam/dense"  # the tensor (N, classes, positions) of the scores at all positions
WHERE = "onnxcam/where"  # the input (N, 1 or classes, positions): how much the positions count
DETECTION, SEGMENTATION, SEQUENCE, IMAGE = "detection", "segmentation", "sequence", "image"  # tasks

Numbers: TypeAlias = dict[str, tuple[float, ...]]


@dataclass(frozen=True)
class Columns:
    """Numbers `start` to `stop` along `axis` of a tensor belong to boxes; the other axes but that of the batch
    run over the positions. `batch_axis` is None if a batch of one was squeezed away.
    """

    tensor: str
    axis: int
    start: int
    stop: int
    batch_axis: int | None = 0

    @property
    def width(self) -> int:
        """How many numbers a box has."""
        return self.stop - self.start

    def read(self, arrays: Mapping[str, Array]) -> Floats:
        """The numbers as (N, positions, width) in float64."""
        array = np.asarray(arrays[self.tensor], np.float64)
        axis, batch = self.axis, self.batch_axis
        if batch is None:
            array, axis, batch = array[None], axis + 1, 0
        rows = np.moveaxis(array, (batch, axis), (0, -1))[..., self.start : self.stop]
        return rows.reshape(len(rows), -1, self.width)


@dataclass(frozen=True)
class Boxes:
    """Where a detector has its boxes. It is plain data, and part of a plan.

    form: a name of `FORMS`.
    columns: the numbers that the boxes are decoded from, in the order of the dense positions.
    numbers: what the form needs besides, such as strides.
    assumed: what was assumed about the form, as a part of a sentence; empty if the graph or the metadata says
        it.
    """

    form: str
    columns: tuple[Columns, ...]
    numbers: Numbers = field(default_factory=dict)
    assumed: str = ""

    @property
    def tensors(self) -> tuple[str, ...]:
        """The names of the tensors that the boxes are decoded from."""
        return tuple(dict.fromkeys(columns.tensor for columns in self.columns))


@dataclass(frozen=True)
class HeadChoice:
    """What a user says about the outputs of a model; what is empty is found in the graph.

    task: one of the tasks of vision models.
    form: the form of the boxes (see `heads/boxes`).
    boxes, scores, objectness: the tensors that hold them.
    class_axis: the axis of the classes in the scores.
    """

    task: str = ""
    form: str = ""
    boxes: str = ""
    scores: str = ""
    objectness: str = ""
    class_axis: int | None = None


NO_CHOICE = HeadChoice()


@dataclass(frozen=True)
class Dense:
    """The scores of a model at positions.

    task: "detection", "segmentation", "sequence" or "image".
    classes: how many.
    activation: the operator that makes probabilities of the scores; None if they are not logits.
    is_probability: whether the scores are probabilities already.
    assumed_activation: what makes probabilities of raw scores, to compare them with a smallest score.
    grid: the rows and columns of the positions of a segmenter, as far as the graph fixes them.
    boxes: where the boxes of the positions are; None if that is unknown.
    background: the class that stands for no object; None if there is none.
    blank: the class of a sequence that stands for no character.
    where_classes: the size of the second axis of WHERE.
    """

    task: str
    classes: int
    activation: str | None = None
    is_probability: bool = False
    assumed_activation: str | None = None
    grid: tuple[Dim, Dim] | None = None
    boxes: Boxes | None = None
    background: int | None = None
    blank: int | None = None
    where_classes: int = 1
