"""Where the quantities of a method are taken: at a layer, at the image, or at several tensors of the model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from onnxcam.arrays import Floats
from onnxcam.registry import Registry

LAYER, IMAGE = "layer", "image"


@dataclass(frozen=True)
class Place:
    """A tensor of the model, and constants that quantities at it are written from (such as `bias`), in a shape
    that broadcasts to the tensor's.
    """

    tensor: str
    channel_axis: int = 1
    constants: Mapping[str, Floats] = field(default_factory=dict)


FindPlaces = Callable[[Sequence[Any], Callable[[Any], Any]], list[Place]]
"""Takes the nodes between the image and the score in order, and a function that returns the values of a tensor
if they are constant, else None. A node has `op`, `attrs`, `inputs` and `outputs`; a tensor has `name` and
`shape`.
"""

PLACES: Registry[FindPlaces] = Registry("place")


def place(name: str) -> Callable[[FindPlaces], FindPlaces]:
    """A decorator that adds a function that finds the tensors of a method: `at=name` names it."""

    def register(find: FindPlaces) -> FindPlaces:
        return PLACES.add(name, find)

    return register
