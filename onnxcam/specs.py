"""What the packages say to each other about a model, as plain data without the graph: its image input, score,
layers, and the plan of what is run.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from onnxcam.arrays import Array, Dim, Floats, Images, Shape

CLASS_SCORES = "onnxcam/classes"  # the score that is added to a model without one score per class
AUTO = "auto"
POWERS = (1, 2, 3)  # of the gradient, whose sums over noisy samples a model returns
SEED = "seed"  # the input of a model with gradients that takes the cotangents
NOISE, SPREAD = "onnxcam/noise", "onnxcam/spread"  # the inputs of what is added to the picture
NO_NOISE = np.zeros((1, 1, 1, 1), np.float32)


def gradient_at(layer: str) -> str:
    """The output that holds the gradient at a layer."""
    return f"gradient/{layer}"


def moment(power: int, layer: str) -> str:
    """The output that holds the sum of the gradient's power over the batch at a layer."""
    return f"moment{power}/{layer}"


@dataclass(frozen=True)
class ImageInput:
    """What a model's image input looks like: the contract between the graph and the preprocessing.

    `height` and `width` are None where the model takes any size; `batch` is None where it takes any
    number of pictures at once. `layout` is "NCHW" or "NHWC".
    """

    name: str
    layout: str
    channels: int | None
    height: int | None
    width: int | None
    batch: int | None
    dtype: np.dtype[Any]

    @property
    def shape(self) -> Shape:
        """Of the input, in its layout; the batch is unknown, whatever was tried of it."""
        sizes = (self.height, self.width)
        return (
            (None, self.channels, *sizes)
            if self.layout == "NCHW"
            else (None, *sizes, self.channels)
        )

    def size_of(self, tensor: Floats) -> tuple[int, int]:
        """(H, W) of pictures (N, ...) in the layout."""
        shape = tensor.shape[2:] if self.layout == "NCHW" else tensor.shape[1:3]
        return int(shape[0]), int(shape[1])


@dataclass(frozen=True)
class Score:
    """`output` is the model's, or what it was rounded or scaled from; `logits` the tensor before its last
    Softmax or Sigmoid (`squashing`), or the output itself; `classes` the number of scores per image, one per
    class. `probability` says that `logits` holds probabilities: no logits before them were found.
    """

    output: str
    logits: str
    output_activation: str | None
    classes: int
    probability: bool = False


@dataclass(frozen=True)
class Layer:
    """A tensor between the picture and the score that holds a grid of cells.

    `whole` says that everything the score sees of the picture passes through it; `automatic` that it is
    what `layer="auto"` takes for a method that runs the picture once, `automatic_smooth` for one that smooths.
    Where the branches of a model meet only behind their last cells, it takes one layer of each branch.
    Of tokens, (N, T, C), `cells` is the grid, and `before` and `after` count the tokens that are no cells.
    `unread` says that the score reads nothing but those: a map of the layer would be empty.
    """

    name: str
    op: str
    shape: Shape
    channel_axis: int
    is_bottleneck: bool
    automatic: bool = False
    auto_for_smoothing: bool = False
    cells: tuple[Dim, Dim] | None = None
    tokens_before: int = 0
    tokens_after: int = 0
    ignored_by_score: bool = False

    @property
    def layout(self) -> str:
        """ "NCHW" or "NHWC"; of tokens "NTC" or "NCT"."""
        names = ("NCHW", "NHWC") if len(self.shape) == 4 else ("NCT", "NTC")
        return names[self.channel_axis != 1]

    @property
    def grid(self) -> tuple[Dim, Dim]:
        """Height and width in cells."""
        if self.cells is not None:
            return self.cells
        height, width = (dim for i, dim in enumerate(self.shape) if i not in (0, self.channel_axis))
        return height, width

    @property
    def tokens(self) -> int:
        """How many tokens are no cells: class tokens, registers."""
        return self.tokens_before + self.tokens_after

    @property
    def channels(self) -> Dim:
        """How many feature maps."""
        return self.shape[self.channel_axis]


@dataclass(frozen=True)
class Plan:
    """A model that returns `of`, the layers, and for the cotangent `seed` the gradients.

    `name`, `digest`, `metadata` and `notices` are those of the `Model`. `constant` says that the graph proves
    the gradients not to depend on the picture, and `apart` that a second model returns them, which takes the
    cotangent alone. `seed_shape` is that of the cotangent of one picture, `seed_dtype` the name of its type.
    `data` is the digest of the external data files: empty if there are none, and unique if it is not known.
    """

    name: str
    digest: str
    metadata: dict[str, str]
    notices: tuple[str, ...]
    image: ImageInput
    score: Score
    explained_tensor: str
    layers: tuple[Layer, ...]
    gradient_is_constant: bool
    has_gradient_model: bool
    seed_shape: tuple[int, ...]
    seed_dtype: str
    data: str = ""

    @property
    def gradients(self) -> list[str]:
        """The outputs that hold the gradients, in the order of the layers."""
        return [gradient_at(each.name) for each in self.layers]

    @property
    def activations(self) -> list[str]:
        """The outputs that hold the layers' values."""
        return [each.name for each in self.layers]

    def seeds(self, weights: Floats) -> Array:
        """Cotangents (N, classes) in the shape and dtype of the score."""
        shape = (len(weights), *self.seed_shape)
        return weights.reshape(shape).astype(self.seed_dtype)

    def feeds(
        self, images: Images, weights: Floats, noise: Any = None, spread: float = 0.0
    ) -> dict[str, Any]:
        """Everything that its models take, by name: the images, cotangents (N, classes), and noise."""
        return {
            self.image.name: images,
            NOISE: NO_NOISE.repeat(len(weights), axis=0) if noise is None else noise,
            SPREAD: np.array(spread, np.float32),
            SEED: self.seeds(weights),
        }
