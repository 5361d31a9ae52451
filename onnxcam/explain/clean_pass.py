"""What one pass of clean images returns."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import NamedTuple

from onnxcam.arrays import Array, Images, Scores
from onnxcam.specs import Output


class SampleBase(NamedTuple):
    """What the samples of one image are made from: the image (1, ...), the values (1, ...) that they vary, and
    the tensors (1, ...) beside these.
    """

    image: Images
    values: Array
    beside: Mapping[str, Array] = MappingProxyType({})


@dataclass(frozen=True)
class CleanPass:
    """What was computed for N images: the scores (N, classes), the outputs of the clean program, and by name
    the tensors `beside` the layer that the model after it reads.
    """

    images: Images
    scores: Scores
    arrays: Mapping[Output, Array]
    beside: Mapping[str, Array] = field(default_factory=dict)

    def raw(self, quantity: str, image: int) -> Array:
        """A quantity of one image (1, ...) at the first layer, as the model returned it."""
        output = next(output for output in self.arrays if output.quantity == quantity)
        return self.arrays[output][image : image + 1]

    def sample_base(self, number: int, *, is_cut: bool) -> SampleBase:
        """What samples of one image are made from: of the values at the first layer, where the model is cut, or
        of the image.
        """
        image = self.images[number : number + 1]
        beside = {name: array[number : number + 1] for name, array in self.beside.items()}
        return SampleBase(image, self.raw("activation", number) if is_cut else image, beside)

    @property
    def image_bytes(self) -> int:
        """The size of one image's arrays."""
        arrays = [*self.arrays.values(), *self.beside.values()]
        return sum(array.nbytes for array in arrays) // len(self.images)

    def rows(self, rows: slice) -> CleanPass:
        """The same for some of the images."""
        arrays = {output: array[rows] for output, array in self.arrays.items()}
        beside = {name: array[rows] for name, array in self.beside.items()}
        return CleanPass(self.images[rows], self.scores[rows], arrays, beside)

    def only(self, outputs: Collection[Output]) -> CleanPass:
        """A copy with some of the outputs."""
        return replace(self, arrays={output: self.arrays[output].copy() for output in outputs})
