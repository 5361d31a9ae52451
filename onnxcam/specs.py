"""Plain data that the packages pass to each other about a model: its image input, score and layers, and the
plan of what is run. Nothing here needs onnx.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from onnxcam.arrays import Array, Dim, Floats, Images, Maps, Shape
from onnxcam.bound_input import BoundInput
from onnxcam.dense import NO_CHOICE, WHERE, Dense, HeadChoice
from onnxcam.errors import ModelError

CLASS_SCORES = "onnxcam/classes"  # the output added to a model without one score per class
AUTO = "auto"
SEED = "seed"  # the input for the cotangents in a model with gradients
RANK = "onnxcam/rank"  # an input (N,) int64: the class of this rank is added to the cotangent, 0 for none
# inputs: SCALE * OFFSET is added to what samples vary
OFFSET, SCALE = "onnxcam/offset", "onnxcam/scale"
SAMPLE_INPUT = "onnxcam/sample/"  # prefix of the inputs that a sampler feeds
REFERENCE = f"{SAMPLE_INPUT}reference"  # the image that some rules compare with
NO_OFFSET = np.zeros((1, 1, 1, 1), np.float32)
MODEL, CONSTANT, HEAD, SAMPLED = "model", "constant", "head", "sampled"  # models of a plan


def gradient_at(layer: str, rules: str = "") -> str:
    """The name of the output that holds the gradient at a layer, by the table of rules of the method unless
    another one is named.
    """
    return f"gradient/{rules}/{layer}" if rules else f"gradient/{layer}"


def sample_input(name: str) -> str:
    """The input that gets what a sampler feeds under this name."""
    return f"{SAMPLE_INPUT}{name}"


def infer_grid(grid: tuple[Dim, Dim], cells: Dim, aspect_ratio: float) -> tuple[int, int]:
    """Height and width of a grid with this many cells. Sizes that the graph fixes are used; if both are free,
    the result is the pair of factors of `cells` whose ratio is nearest to `aspect_ratio`, the image's height /
    width. ModelError if `cells` is no number either.
    """
    height, width = grid
    if not isinstance(cells, int):
        if isinstance(height, int) and isinstance(width, int):
            return height, width
        raise ModelError(
            f"the grid {height} x {width} of the tokens is not fixed; export the model for images of one size"
        )
    if isinstance(height, int):
        return height, cells // height
    if isinstance(width, int):
        return cells // width, width
    heights = [height for height in range(1, cells + 1) if cells % height == 0]
    best = min(heights, key=lambda height: abs(np.log(height * height / cells / aspect_ratio)))
    return best, cells // best


@dataclass(frozen=True)
class ImageInput:
    """A model's image input: the contract between the graph and the preprocessing.

    `height` and `width` are None if the model accepts any size, `batch` is None if it accepts any number of
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
        """The input's shape in its layout; the batch axis is always None."""
        sizes = (self.height, self.width)
        return (
            (None, self.channels, *sizes)
            if self.layout == "NCHW"
            else (None, *sizes, self.channels)
        )

    def as_layer(self) -> Layer:
        """The image itself as a layer, for quantities that are taken there."""
        axis = 1 if self.layout == "NCHW" else 3
        return Layer(self.name, "", self.shape, axis, is_bottleneck=True)

    def size_of(self, tensor: Floats) -> tuple[int, int]:
        """(H, W) of images (N, ...) in this layout."""
        shape = tensor.shape[2:] if self.layout == "NCHW" else tensor.shape[1:3]
        return int(shape[0]), int(shape[1])


@dataclass(frozen=True)
class Score:
    """The tensor with one score per class.

    `output` is the model's output, or the tensor that it was rounded or scaled from. `logits` is the tensor
    before its last Softmax or Sigmoid (named by `output_activation`), or `output` itself. `classes` is the
    number of scores per image. `probability` is True if `logits` holds probabilities because no logits were
    found. `exact_activation` is True if `output` is the output activation of `logits` and nothing else, so that
    it can be computed from them.
    """

    output: str
    logits: str
    output_activation: str | None
    classes: int
    probability: bool = False
    exact_activation: bool = False


@dataclass(frozen=True)
class Layer:
    """A tensor between the image and the score that holds a grid of cells.

    is_bottleneck: everything that the score depends on in the image passes through this layer.
    automatic: one of the layers that `layer="auto"` selects for a method that runs the image once. There are
        several if no single layer holds all evidence, as in a detector with several grids.
    auto_for_smoothing: the same for a method that averages over noisy samples.
    cells: the grid, for tokens (N, T, C) or (N, C, T). `tokens_before` and `tokens_after` count the tokens that
        are not cells.
    ignored_by_score: the score reads only tokens that are not cells, so a map of this layer is empty.
    number: the row in `onnxcam layers`, from 1; it depends on the model and its output with the scores. 0 for a
        tensor that is not listed.
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
    number: int = 0

    @property
    def layout(self) -> str:
        """ "NCHW" or "NHWC"; for tokens "NTC" or "NCT"."""
        names = ("NCHW", "NHWC") if len(self.shape) == 4 else ("NCT", "NTC")
        return names[self.channel_axis != 1]

    @property
    def grid(self) -> tuple[Dim, Dim]:
        """Height and width in cells."""
        if self.cells is not None:
            return self.cells
        axes = (axis for axis in range(len(self.shape)) if axis not in (0, self.channel_axis))
        height, width = (self.shape[axis] for axis in axes)
        return height, width

    @property
    def tokens(self) -> int:
        """The number of tokens that are not cells: class tokens and registers."""
        return self.tokens_before + self.tokens_after

    @property
    def channels(self) -> Dim:
        """The number of feature maps."""
        return self.shape[self.channel_axis]

    def channels_first(self, array: Array, aspect_ratio: float, dtype: Any = np.float64) -> Maps:
        """The layer's values or gradients as (N, C, h, w) in `dtype`, without tokens that are not cells.
        `aspect_ratio` is the image's height / width; it decides the grid if the graph leaves its sizes free.
        Runs on Values, too: ModelError if their number of tokens is free.
        """
        maps = np.moveaxis(array.astype(dtype, copy=False), self.channel_axis, 1)
        if self.cells is None:
            return maps
        cells = maps[:, :, self.tokens_before : -self.tokens_after or None]
        return np.reshape(
            cells, (*cells.shape[:2], *infer_grid(self.cells, cells.shape[2], aspect_ratio))
        )

    def spread(self, masks: Floats, shape: Sequence[int]) -> Floats:
        """Masks (n, h, w) of cells as (n, ...), broadcasting to the layer's values of this shape. Tokens that
        are not cells get 1. Runs on Values, too.
        """
        axis = self.channel_axis % len(shape)
        if self.cells is None:
            return np.expand_dims(masks, axis)
        cells = np.reshape(masks, (-1, masks.shape[1] * masks.shape[2]))
        kept = np.ones_like(cells[:, :1])
        rows = [*[kept] * self.tokens_before, cells, *[kept] * self.tokens_after]
        return np.expand_dims(np.concatenate(rows, axis=1), axis)


@dataclass(frozen=True)
class PlanRequest:
    """Everything that a plan depends on besides the model: the planner reads nothing else, and the key of a
    cached plan is made of all fields.

    rules: the name of a table of gradient rules.
    quantities: what the method takes, and what the checks of its maps need.
    at: where they are taken: "layer", "image", or the name of a function that finds several tensors.
    varies: what samples differ in: "" if there are none, "image", or "activation".
    layers: names, or (AUTO,).
    output: the tensor with the class scores, None to find it.
    probability: explain the output of the last Softmax or Sigmoid instead of the logits.
    target: the kind of target and what its expression depends on; empty for classes.
    single_layer: whether samples are made from the values of a layer, of which there must be one.
    answers: only run the model, for its scores at all positions (see `Dense`).
    head: what the user says about the outputs.
    """

    rules: str
    quantities: tuple[str, ...]
    at: str = "layer"
    varies: str = ""
    layers: tuple[str, ...] = (AUTO,)
    output: str | None = None
    probability: bool = False
    target: tuple[str, ...] = ()
    single_layer: bool = False
    answers: bool = False
    head: HeadChoice = NO_CHOICE


@dataclass(frozen=True)
class Output:
    """The tensor that holds a quantity at one of the layers."""

    quantity: str
    layer: int
    tensor: str


@dataclass(frozen=True)
class Program:
    """What one run of a model returns. `model` is MODEL, CONSTANT, HEAD or SAMPLED."""

    model: str
    outputs: tuple[Output, ...] = ()

    @property
    def tensors(self) -> list[str]:
        """The names of the outputs."""
        return [output.tensor for output in self.outputs]


@dataclass(frozen=True)
class Plan:
    """What is run. The first model returns `explained_tensor` and the quantities of the clean program.

    name, digest, metadata, notices, inputs: those of the `Model`.
    layers: where the quantities are taken; the image itself, or the tensors of a method at several.
    clean: the quantities that depend on the image.
    constant: quantities of the clean image of which the graph proves that they do not depend on it.
    sampled: the quantities that differ between samples.
    constant_sampled: quantities that depend on the cotangents of the samples only.
    image_dtype: the name of the dtype in which the models take the image; float32 for a gradient at an image of
        integers.
    seed_shape, seed_dtype: the shape of one image's cotangent, and the name of its dtype.
    epsilon: the machine epsilon of the coarsest dtype of a layer.
    target: the kind of target and what its expression depends on; empty for classes.
    beside: tensors that the model after the layer reads besides it, which the first model returns.
    data: the digest of the external data files; empty if there are none, and a unique text if it is unknown.
    source_notices: those of the notices that concern only what is written from a source (see `SOURCES`), or
        only quantities that depend on the target, as pairs of the source, or "target", and the notice.
    dense: the scores at positions that the score is a sum of; None for a model with one score per class.
    task: what the model is for.
    names: what the scores are called that are no classes; empty for classes.
    is_quantized: whether values are rounded to integers anywhere, so that scores change in steps.
    """

    name: str
    digest: str
    metadata: dict[str, str]
    notices: tuple[str, ...]
    image: ImageInput
    image_dtype: str
    score: Score
    explained_tensor: str
    layers: tuple[Layer, ...]
    clean: Program
    constant: Program
    sampled: Program
    constant_sampled: Program
    seed_shape: tuple[int, ...]
    seed_dtype: str
    epsilon: float
    target: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()
    data: str = ""
    inputs: tuple[BoundInput, ...] = ()
    source_notices: tuple[tuple[str, str], ...] = ()
    dense: Dense | None = None
    task: str = ""
    names: tuple[str, ...] = ()
    is_quantized: bool = False

    @property
    def programs(self) -> tuple[Program, ...]:
        """All programs."""
        return self.clean, self.constant, self.sampled, self.constant_sampled

    @property
    def models(self) -> list[str]:
        """The models that programs run, beginning with the first one, which always exists."""
        names = (program.model for program in self.programs if program.outputs)
        return list(dict.fromkeys((MODEL, *names)))

    @property
    def gradient_is_constant(self) -> bool:
        """Whether the graph proves that the gradients do not depend on the image."""
        return bool(self.constant.outputs or self.constant_sampled.outputs)

    @property
    def one_sample_is_enough(self) -> bool:
        """Whether no quantity of the samples depends on what they vary."""
        return bool(self.constant_sampled.outputs) and not self.sampled.outputs

    def seeds(self, weights: Floats) -> Array:
        """Cotangents (N, classes) in the shape and dtype that the model expects."""
        shape = (len(weights), *self.seed_shape)
        return weights.reshape(shape).astype(self.seed_dtype)

    def feeds(
        self, images: Images, weights: Floats, ranks: Any = None, where: Any = None
    ) -> dict[str, Any]:
        """The inputs of the first model by name, for clean images: these, their cotangents `weights` (N,
        classes), the ranks (N,) of classes that are added to them, and how much positions count.
        """
        count = len(weights)
        places = {} if where is None else {WHERE: np.asarray(where, np.float32)}
        return {
            self.image.name: images,
            SEED: self.seeds(weights),
            RANK: np.zeros(count, np.int64) if ranks is None else ranks,
            OFFSET: NO_OFFSET.repeat(count, axis=0),
            SCALE: np.zeros(count, np.float32),
            **places,
        }
