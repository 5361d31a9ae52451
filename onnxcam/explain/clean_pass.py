"""What one pass of clean images returns."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from onnxcam.arrays import Array, Images, Scores
from onnxcam.specs import Output


@dataclass(frozen=True)
class CleanPass:
    """What was computed for N images: the scores (N, classes), and the outputs of the clean program."""

    images: Images
    scores: Scores
    arrays: Mapping[Output, Array]

    def raw(self, quantity: str, image: int) -> Array:
        """A quantity of one image (1, ...) at the first layer, as the model returned it."""
        output = next(output for output in self.arrays if output.quantity == quantity)
        return self.arrays[output][image : image + 1]

    @property
    def image_bytes(self) -> int:
        """The size of one image's arrays."""
        return sum(array.nbytes for array in self.arrays.values()) // len(self.images)

    def rows(self, rows: slice) -> CleanPass:
        """The same for some of the images."""
        arrays = {output: array[rows] for output, array in self.arrays.items()}
        return CleanPass(self.images[rows], self.scores[rows], arrays)

    def only(self, outputs: Collection[Output]) -> CleanPass:
        """A copy with some of the outputs."""
        return replace(self, arrays={output: self.arrays[output].copy() for output in outputs})
