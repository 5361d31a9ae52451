"""The traits that the table of operators (`operators.py`) states."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Elementwise: TypeAlias = Literal["unary", "broadcasting", "channelwise"]
Moves: TypeAlias = (
    Literal["identity", "cast", "view", "transpose", "blocks", "repeat"]
    | Literal["slice", "gather", "select", "join", "pad"]
)
Window: TypeAlias = Literal["conv", "integer conv", "transposed conv", "pool", "global pool"]
ZeroGradient: TypeAlias = (
    Literal["step", "indices", "truth values", "takes integers", "gives integers"]
    | Literal["sizes", "constant", "random", "strings"]
)


@dataclass(frozen=True)
class Traits:
    """What an operator does, as far as a pass relies on it. A trait that is not stated is not denied: the pass
    then treats the operator as unknown, which is always safe.
    """

    elementwise: Elementwise | None = None
    """Every output number is computed from the numbers at its own position alone.

    - unary: of the first input; the others are settings, one number or one per channel (Relu, Clip, PRelu)
    - broadcasting: of several inputs, broadcast to each other (Add, Where)
    - channelwise: scaled and shifted, or rounded, by one number or one per channel (BatchNormalization)
    """

    unaligned: bool = False
    """An elementwise operator with another input or output that does not line up with the first input: the
    type of CastLike, the mask of Dropout."""

    moves: Moves | None = None
    """Output numbers are input numbers, unchanged; what the operator does to their order.

    - identity, cast: nothing, but perhaps for the dtype
    - view: other axes, the same row-major order (Reshape, Squeeze)
    - transpose: the axes in another order
    - blocks: channels become rows and columns, or the reverse (DepthToSpace)
    - repeat: copies (Expand, Tile)
    - slice: a contiguous or strided range along an axis (Slice, Split)
    - gather: indices of one axis (Gather)
    - select: others, by indices or by their size (GatherND, MaxPool)
    - join: several inputs one after another (Concat)
    - pad: between added numbers (Pad)
    """

    normalizes: Literal["axis", "trailing"] | None = None
    """Every output number depends on all numbers along `axis`, or along all axes from `axis` on. The default of
    `axis` is -1 (of Softmax before opset 13: 1)."""

    reduces: bool = False
    """Reduces `axes` to one number each."""

    contracts: bool = False
    """Sums products along an axis of two inputs: the output's axes are those of the one and of the other."""

    window: Window | None = None
    """Slides a kernel over the rows and columns of (N, C, H, W), or over all of them at once."""

    channels_second: bool = False
    """Takes axis 1 for the channels, without a window (BatchNormalization)."""

    loses_positions: bool = False
    """Positions of the output are not positions of the input, though the sizes may agree (TopK, GridSample)."""

    reads_shape: bool = False
    """Depends on the shape of its input only, not on its values."""

    output_range: tuple[float, float] | None = None
    """No output is below the first or above the second number, for any input."""

    keeps_range: bool = False
    """No output is beyond both 0 and the least and largest input: means and maxima (pads are zeros)."""

    increasing: bool = False
    """Grows with its first input, or stays, where the other inputs are constants."""

    blends: bool = False
    """Makes of probabilities their mean, product or another mixture, perhaps rescaled."""

    output_activation: bool = False
    """Makes scores (probabilities, or their logarithms) of logits."""

    quantizes: bool = False
    """Rounds floats to integers of a given scale, or reads such integers as floats."""

    zero_gradient: ZeroGradient | None = None
    """No derivative flows through it in any model; why."""

    random: Literal["always", "training"] | None = None
    """Draws random numbers, always or in training mode."""

    control_flow: bool = False
    """Runs graphs of its own: branches and loops."""

    container: bool = False
    """Puts tensors into a sequence, a map, or an optional value."""

    atomic: bool = False
    """Is not expanded to the simpler operators of its definition in ONNX: they loop, draw random numbers, or
    round where a gradient should pass."""

    stays_in_nchwc: bool = False
    """ONNX Runtime's CPU provider computes it in the blocked layout of its convolutions."""


UNKNOWN = Traits()
