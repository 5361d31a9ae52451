"""The traits that the table of operators (`operators.py`) states."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Elementwise: TypeAlias = Literal["unary", "broadcasting", "channelwise"]
Moves: TypeAlias = (
    Literal["identity", "cast", "view", "transpose", "blocks", "repeat"]
    | Literal["slice", "gather", "select", "join", "pad"]
)
WindowKind: TypeAlias = Literal["conv", "integer conv", "transposed conv", "pool", "global pool"]
ZeroGradient: TypeAlias = (
    Literal["step", "indices", "truth values", "takes integers", "gives integers"]
    | Literal["sizes", "constant", "random", "strings"]
)


@dataclass(frozen=True)
class Traits:
    """What an operator does, as far as a pass relies on it.

    A trait that is not stated may still hold. A pass then treats the operator as unknown, which is safe.
    """

    elementwise: Elementwise | None = None
    """Each output number depends only on the numbers at its own position.

    - unary: in the first input; other inputs are settings, one number or one per channel (Relu, Clip, PRelu)
    - broadcasting: in several inputs, broadcast to each other (Add, Where)
    - channelwise: in the first input, scaled, shifted or rounded by one number or one per channel
      (BatchNormalization, QuantizeLinear)
    """

    unaligned: bool = False
    """An elementwise operator, but with an input or output that does not line up with the first input: the type
    of CastLike, the mask of Dropout."""

    moves: Moves | None = None
    """Output numbers are input numbers, unchanged. What happens to their order:

    - identity, cast: nothing (a cast changes the dtype)
    - view: other axes, the same row-major order (Reshape, Squeeze)
    - transpose: the axes in another order (Transpose)
    - blocks: channels become rows and columns, or the reverse (DepthToSpace)
    - repeat: copies (Expand, Tile)
    - slice: ranges along axes (Slice, Split)
    - gather: indices of one axis (Gather)
    - select: chosen by indices of several axes, or by their values (GatherND, MaxPool)
    - join: several inputs one after another (Concat)
    - pad: surrounded by other numbers (Pad)
    """

    normalizes: Literal["axis", "trailing"] | None = None
    """Each output number depends on all numbers along `axis`, or along all axes from `axis` on. The default of
    `axis` is -1, but 1 for Softmax before opset 13."""

    reduces: bool = False
    """Reduces `axes` to a single number."""

    contracts: bool = False
    """Sums products along an axis of two inputs. The output has the remaining axes of both."""

    window: WindowKind | None = None
    """Slides a window over the rows and columns of (N, C, H, W), or covers all of them (global pool)."""

    channels_second: bool = False
    """Axis 1 holds the channels, although there is no window (BatchNormalization)."""

    loses_positions: bool = False
    """Positions of the output are not positions of the input, though the sizes may agree (TopK, GridSample)."""

    reads_shape: bool = False
    """Depends only on the shape of its input, not on the values."""

    output_range: tuple[float, float] | None = None
    """Bounds of the output, for any input."""

    keeps_range: bool = False
    """The output is within the range of the input and 0: means, maxima, minima (0, since pads are zeros)."""

    increasing: bool = False
    """If the first input grows and the others are constants, the output grows or stays."""

    blends: bool = False
    """Turns probabilities into their mean, product or another mixture, perhaps rescaled."""

    output_activation: bool = False
    """Turns logits into probabilities, or their logarithms."""

    quantizes: bool = False
    """Rounds floats to integers with a scale, or converts such integers to floats."""

    zero_gradient: ZeroGradient | None = None
    """The reason why no derivative flows through it in any model."""

    random: Literal["always", "training"] | None = None
    """Draws random numbers, always or only in training mode."""

    control_flow: bool = False
    """Runs inner graphs: branches and loops."""

    container: bool = False
    """Puts tensors into a sequence, a map, or an optional value."""

    atomic: bool = False
    """Not replaced by its definition in ONNX, which loops, draws random numbers, or rounds where a gradient
    should pass."""

    stays_in_nchwc: bool = False
    """ONNX Runtime's CPU provider computes it in the blocked layout of its convolutions."""


UNKNOWN = Traits()
