"""What is chosen in a model, told without its graph: the score, and layers."""

from __future__ import annotations

from dataclasses import dataclass

from onnxcam.arrays import Dim, Shape

POOLED = "onnxcam/classes"  # the score that is added to a model without one score per class


@dataclass(frozen=True)
class Score:
    """`output` is the model's, or what it was rounded or scaled from; `logits` the tensor before its last
    Softmax or Sigmoid (`squashing`), or the output itself; `classes` the number of scores per image, one per
    class. `probability` says that `logits` holds probabilities: no logits before them were found.
    """

    output: str
    logits: str
    squashing: str | None
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
    whole: bool
    automatic: bool = False
    automatic_smooth: bool = False
    cells: tuple[Dim, Dim] | None = None
    before: int = 0
    after: int = 0
    unread: bool = False

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
        return self.before + self.after

    @property
    def channels(self) -> Dim:
        """How many feature maps."""
        return self.shape[self.channel_axis]
