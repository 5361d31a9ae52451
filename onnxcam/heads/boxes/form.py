"""The forms in which detectors write their boxes: `FORMS` is the table of those that the modules of `forms/`
register. Nothing here needs onnx, so that the boxes of a cached plan are decoded without it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

from onnxcam.arrays import Floats
from onnxcam.dense import Boxes, Columns, Numbers
from onnxcam.registry import Registry

Size: TypeAlias = tuple[int, int]  # height and width of the model's input in pixels


@dataclass(frozen=True)
class BoxColumns:
    """Numbers of a model that may be its boxes, and what the graph says about them.

    columns: one per tensor, in the order of the dense positions.
    grids: the sizes of the axes of positions of each tensor, None where they are free.
    size: height and width of the model's input, None where they are free.
    raw: whether the numbers are what the last weights computed, so that nothing was decoded.
    activation: the operator of one input after those weights, such as "Sigmoid", "Relu" or "Exp", if raw.
    layout: "corners" (x0, y0, x1, y1) or "centers" (x, y, width, height) if the graph tells, else "".
    own: whether scores and boxes are in one tensor.
    objectness: the column of the objectness in that tensor, None without one.
    anchors: how many boxes a cell of a grid has, None if the graph does not tell.
    channels_last: whether the images are (N, H, W, C), as in TensorFlow.
    metadata: that of the model.
    """

    columns: tuple[Columns, ...]
    grids: tuple[tuple[int | None, ...], ...]
    size: tuple[int | None, int | None]
    raw: bool = False
    activation: str = ""
    layout: str = ""
    own: bool = False
    objectness: int | None = None
    anchors: int | None = None
    channels_last: bool = False
    metadata: dict[str, str] = field(default_factory=dict)

    @property
    def width(self) -> int:
        """How many numbers a box has."""
        return self.columns[0].width

    @property
    def counts(self) -> tuple[int, ...] | None:
        """The number of positions of each tensor; None if the graph leaves one free."""
        counts = []
        for grid in self.grids:
            sizes = [size for size in grid if size is not None]
            if len(sizes) < len(grid):
                return None
            counts.append(math.prod(sizes))
        return tuple(counts)

    @property
    def image_size(self) -> Size | None:
        """Height and width of the model's input; None if they are free."""
        height, width = self.size
        return None if height is None or width is None else (height, width)

    @property
    def is_linear(self) -> bool:
        """Whether the numbers are what the last weights computed, without an activation."""
        return self.raw and not self.activation


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
