"""Plain data about a model that the packages exchange, without its graph: image input, score, layers, and the
plan of what is run.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from onnxcam.arrays import Array, Dim, Floats, Images, Shape

CLASS_SCORES = "onnxcam/classes"  # the output that is added to a model without one score per class
AUTO = "auto"
POWERS = (1, 2, 3)  # of the gradient: a model returns their sums over noisy samples
SEED = "seed"  # the input for the cotangents of a model with gradients
NOISE, SPREAD = "onnxcam/noise", "onnxcam/spread"  # the inputs for what is added to the image
NO_NOISE = np.zeros((1, 1, 1, 1), np.float32)


def gradient_at(layer: str) -> str:
    """The output that holds the gradient at a layer."""
    return f"gradient/{layer}"


def moment(power: int, layer: str) -> str:
    """The output that holds the sum of the gradient's power over the batch at a layer."""
    return f"moment{power}/{layer}"


@dataclass(frozen=True)
class ImageInput:
    """The image input of a model, as the preprocessing needs it.

    `height` and `width` are None if the model takes any size, `batch` is None if it takes any number of
    images at once. `layout` is "NCHW" or "NHWC".
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
        """The shape in the input's layout. The batch is always None."""
        sizes = (self.height, self.width)
        return (
            (None, self.channels, *sizes)
            if self.layout == "NCHW"
            else (None, *sizes, self.channels)
        )

    def size_of(self, tensor: Floats) -> tuple[int, int]:
        """(H, W) of images (N, ...) in this layout."""
        shape = tensor.shape[2:] if self.layout == "NCHW" else tensor.shape[1:3]
        return int(shape[0]), int(shape[1])


@dataclass(frozen=True)
class Score:
    """The scores of a model. `output` is the model's output, or what it was rounded or scaled from; `logits` is
    the tensor before its last Softmax or Sigmoid (`output_activation`), or the output itself; `classes` is the
    number of scores per image, one per class. With `probability`, `logits` holds probabilities, because no
    logits before them were found.
    """

    output: str
    logits: str
    output_activation: str | None
    classes: int
    probability: bool = False


@dataclass(frozen=True)
class Layer:
    """A tensor between the image and the score that holds a grid of cells.

    - `is_bottleneck`: everything that the score depends on passes through it.
    - `automatic`: `layer="auto"` takes it for methods that run the image once, `auto_for_smoothing`: for those
      that smooth. If the branches of a model meet only after their last grids, it takes one layer per branch.
    - `cells`: the grid of tokens (N, T, C); `tokens_before` and `tokens_after` count those outside of the grid.
    - `ignored_by_score`: the score reads only tokens outside of the grid, so that a map would be empty.
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
        """The number of tokens outside of the grid: class tokens, registers."""
        return self.tokens_before + self.tokens_after

    @property
    def channels(self) -> Dim:
        """The number of feature maps."""
        return self.shape[self.channel_axis]


@dataclass(frozen=True)
class Plan:
    """What is run: a model that returns `explained_tensor`, the layers, and their gradients for a cotangent.

    `name`, `digest`, `metadata` and `notices` are those of the `Model`. With `gradient_is_constant`, the graph
    proves that the gradients do not depend on the image; with `has_gradient_model`, a second model returns
    them, which takes only the cotangent. `seed_shape` is the shape of the cotangent of one image, `seed_dtype`
    the name of its dtype. `data` is the digest of the external data files: empty if there are none, and unique
    if it is unknown.
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
        return [gradient_at(layer.name) for layer in self.layers]

    @property
    def activations(self) -> list[str]:
        """The outputs that hold the values of the layers."""
        return [layer.name for layer in self.layers]

    def seeds(self, weights: Floats) -> Array:
        """Cotangents (N, classes) in the shape and dtype of the score."""
        shape = (len(weights), *self.seed_shape)
        return weights.reshape(shape).astype(self.seed_dtype)

    def feeds(
        self, images: Images, weights: Floats, noise: Any = None, spread: float = 0.0
    ) -> dict[str, Any]:
        """All inputs of the models by name: the images, cotangents for `weights` (N, classes), and noise."""
        return {
            self.image.name: images,
            NOISE: NO_NOISE.repeat(len(weights), axis=0) if noise is None else noise,
            SPREAD: np.array(spread, np.float32),
            SEED: self.seeds(weights),
        }
