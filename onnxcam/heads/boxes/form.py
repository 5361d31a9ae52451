"""The forms in which detectors write their boxes: `FORMS` is the table of those that the modules of `forms/`
register. Nothing here needs onnx, so that the boxes of a cached plan are decoded without it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from onnxcam.arrays import Array, Floats
from onnxcam.registry import Registry

Numbers: TypeAlias = dict[str, tuple[float, ...]]
Size: TypeAlias = tuple[int, int]  # height and width of the model's input in pixels


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
class BoxColumns:
    """Numbers of a model that may be its boxes, and what the graph says about them.

    columns: one per tensor, in the order of the dense positions.
    counts: the number of positions per tensor, None where it is free.
    size: height and width of the model's input, None where they are free.
    raw: whether the numbers are what the last weights computed, so that nothing was decoded.
    activation: the operator of one input after those weights, such as "Sigmoid", "Relu" or "Exp", if raw.
    layout: "corners" (x0, y0, x1, y1) or "centers" (x, y, width, height) if the graph tells, else "".
    own: whether scores and boxes are in one tensor.
    objectness: the column of the objectness in that tensor, None without one.
    channels_last: whether the images are (N, H, W, C), as in TensorFlow.
    metadata: that of the model.
    """

    columns: tuple[Columns, ...]
    counts: tuple[int | None, ...]
    size: tuple[int | None, int | None]
    raw: bool = False
    activation: str = ""
    layout: str = ""
    own: bool = False
    objectness: int | None = None
    channels_last: bool = False
    metadata: dict[str, str] = field(default_factory=dict)

    @property
    def width(self) -> int:
        """How many numbers a box has."""
        return self.columns[0].width


Find: TypeAlias = Callable[[BoxColumns], Boxes | None]
Decode: TypeAlias = Callable[[list[Floats], Numbers, Size], Floats]


@dataclass(frozen=True)
class Form:
    """A form of boxes: whether numbers have it, and how they are decoded: from one array (N, positions,
    numbers) per tensor to (N, positions, 4).
    """

    name: str
    find: Find
    decode: Decode


FORMS: Registry[Form] = Registry("form of boxes")


def box_form(*names: str, decode: Decode) -> Callable[[Find], Find]:
    """A decorator that adds a form to the table, under its name and those of detectors that have it: it takes
    the function that recognizes it; see `Form`.
    """

    def register(find: Find) -> Find:
        form = Form(names[0], find, decode)
        for name in names:
            FORMS.add(name, form)
        return find

    return register
