"""An output of a model read as scores: what its axes hold."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_graphsurgeon as gs

from onnxcam.arrays import Dim
from onnxcam.heads.detection_columns import ClassColumns
from onnxcam.spatial.axes import Axes


@dataclass(frozen=True)
class Head:
    """An output read as scores.

    `output` is an output of the model, or the tensor that it is made from; `probabilities` are the floats in
    it, and `logits` the tensor before their last Softmax or Sigmoid, the `output_activation`.

    The axes are those of the logits: `batch_axis` (None if a batch of one was squeezed away), `class_axis`
    (None for one class), and `other_axes` of pixels (`is_map`), boxes, or steps. `class_columns` are the
    classes among the numbers of a detection. `inner_logits` names the logits of the probabilities that the
    scores are mixed from. `is_guess` says that only the sizes decided which axis holds the classes, and `axes`
    what the axes of the logits hold, as far as they could be followed from the image. `objectness` is another
    output that says whether there is an object at all.
    """

    output: gs.Tensor
    probabilities: gs.Tensor
    logits: gs.Tensor
    output_activation: str | None
    batch_axis: int | None
    class_axis: int | None
    other_axes: tuple[int, ...]
    class_columns: ClassColumns | None
    is_map: bool
    inner_logits: tuple[str, ...]
    is_guess: bool
    axes: Axes | None = None
    objectness: Head | None = None

    @property
    def class_count(self) -> int:
        """How many classes."""
        if self.class_columns is not None:
            return self.class_columns.stop - self.class_columns.start
        return 1 if self.class_axis is None else int(self.logits.shape[self.class_axis])

    @property
    def position_sizes(self) -> tuple[Dim, ...]:
        """The sizes of the axes of pixels, boxes, or steps."""
        return tuple(self.logits.shape[axis] for axis in self.other_axes)

    @property
    def has_class_scores(self) -> bool:
        """Whether it has the shape (N, classes), perhaps with further axes of size 1."""
        return self.batch_axis == 0 and not self.other_axes and len(self.logits.shape) > 1
