"""Where the quantities of a method are taken: at a layer, at the image, or at several tensors of the model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from onnxcam.arrays import Floats
from onnxcam.registry import Registry

LAYER, IMAGE = "layer", "image"


def unchanged(values: Any) -> Any:
    """The values as the model has them."""
    return values


@dataclass(frozen=True)
class Place:
    """A tensor of the model.

    Attributes:
        tensor: its name.
        channel_axis: the axis of its channels, in what `arrange` returns.
        constants: arrays that quantities at the tensor are written from, such as `bias`, in a shape that
            broadcasts to the tensor's, or `cells`.
        arrange: reorders or splits the axes of the tensor's values, or of its gradient, with NumPy's functions,
            so that the images come first.
        output: the name of the output of the tensor's block, which the tail of the model can read in place of
            the output of the last block; "" if it is not known.
        notice: what a user should know about the choice of this tensor; "" for nothing.
    """

    tensor: str
    channel_axis: int = 1
    constants: Mapping[str, Floats] = field(default_factory=dict)
    arrange: Callable[[Any], Any] = unchanged
    output: str = ""
    notice: str = ""


@dataclass(frozen=True)
class ModelView:
    """What a function that finds places may ask about a model.

    Attributes:
        nodes: the nodes between the image and the score, in order. A node has `op`, `attrs`, `inputs` and
            `outputs`; a tensor has `name` and `shape`.
        constant_values: returns the values of a tensor if they are constant, else None.
        attention: returns the attention matrices. ModelError if there are none that cover the image.
    """

    nodes: Sequence[Any]
    constant_values: Callable[[Any], Any]
    attention: Callable[[], AttentionMatrices]


@dataclass(frozen=True)
class AttentionMatrix:
    """The weights with which a block of a transformer mixes the values of tokens, after the Softmax.

    Attributes:
        tensor: its name.
        arrange: makes (N, heads, tokens, tokens) of its values: how much each token reads of every token.
        output: the name of the block's output, after its last residual connection; "" if it has none.
    """

    tensor: str
    arrange: Callable[[Any], Any]
    output: str


@dataclass(frozen=True)
class AttentionMatrices:
    """The attention matrices that follow each other in a model, over the same tokens.

    Attributes:
        matrices: in the order of the model.
        left_out: the names of all others: among other cells, or of some tokens to others.
        before, after: the numbers of tokens before and after the cells: class tokens, registers.
        height, width: the grid of the cells.
        read: the tokens that each reader of the last block's output reads: one class token, or all that are
            averaged.
    """

    matrices: Sequence[AttentionMatrix]
    left_out: Sequence[str]
    before: int
    height: int
    width: int
    after: int
    read: Sequence[Sequence[int]]

    @property
    def tokens(self) -> int:
        """The number of tokens."""
        return self.before + self.height * self.width + self.after


FindPlaces = Callable[[ModelView], list[Place]]

PLACES: Registry[FindPlaces] = Registry("place")


def place(name: str) -> Callable[[FindPlaces], FindPlaces]:
    """A decorator that adds a function that finds the tensors of a method: `at=name` names it. It may raise
    ModelError with the reason why a model has none.
    """

    def register(find: FindPlaces) -> FindPlaces:
        return PLACES.add(name, find)

    return register
