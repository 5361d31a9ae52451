"""What an axis holds after an operator selected positions of it, changed its size, or joined it with others.

Examples, of an axis of 1 class token and 2 x 3 cells, 1+(y2·x3)+0:

    positions 1 to 6        y2·x3            the cells alone
    positions 0 to 3        moved4           some of the cells: no longer the grid of the image
    position 0              extra1           no cell
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxcam.arrays import Dim
from onnxcam.graph.window import MAX_SPAN
from onnxcam.spatial.axes import (
    CHANNELS,
    COLUMNS,
    EXTRA,
    MOVED,
    ROWS,
    Axis,
    Factor,
    Tokens,
    holds_cells,
    kinds,
    new_axis,
    size_of,
)


def information_rank(axis: Axis) -> int:
    """How much is known about an axis: of two operands, the one with the higher rank decides."""
    axis_kinds = kinds(axis)
    return 3 * bool(axis_kinds & {ROWS, COLUMNS}) + 2 * (MOVED in axis_kinds) + bool(axis_kinds)


def may_be_equal(size: Dim, dim: Dim) -> bool:
    """Whether an axis of an input, of that size, may be the axis of an output of size `dim`: sizes with
    different names may be equal.
    """
    if isinstance(size, int) and isinstance(dim, int):
        return size == dim
    return size == dim or not isinstance(size, int)


def resized_axis(axis: Axis, dim: Dim, origin: str) -> Axis:
    """An axis whose size was changed by an operator that keeps what it holds."""
    axis_kinds = kinds(axis)
    kind = (
        next(iter(axis_kinds)) if len(axis_kinds) == 1 else MOVED if holds_cells(axis) else CHANNELS
    )
    return new_axis(kind, dim, origin)


def slice_axis(axis: Axis, size: int, positions: Sequence[int], origin: str) -> Axis:
    """What some positions of an axis of that size hold."""
    if positions == range(size):
        return axis
    if len(positions) > MAX_SPAN:
        return new_axis(MOVED, len(positions), origin)
    if len(positions) == size and list(positions) == list(range(size)):
        return axis
    if len(axis) == 1 and isinstance(axis[0], Tokens):
        return _slice_tokens(axis[0], positions, origin)
    if len(axis) > 1 and holds_cells(axis):
        return new_axis(MOVED, len(positions), origin)
    return resized_axis(axis, len(positions), origin)


def _slice_tokens(tokens: Tokens, positions: Sequence[int], origin: str) -> Axis:
    """The grid, if all cells are among consecutive positions, with the other tokens around it."""
    count, cells = len(positions), size_of(tokens.cells)
    if tokens.before is None or tokens.after is None or not isinstance(cells, int):
        return new_axis(MOVED, count, origin)
    stop = tokens.before + cells
    selected = sum(tokens.before <= position < stop for position in positions)
    if not selected:
        return new_axis(EXTRA, count, origin)
    before = sum(position < tokens.before for position in positions)
    is_consecutive = list(range(positions[0], positions[0] + count)) == list(positions)
    if not is_consecutive or selected < cells:
        return new_axis(MOVED, count, origin)
    return with_extra_tokens(tokens.cells, before, count - before - cells)


def unfold_axis(axis: Axis, size: int, index: NDArray[Any], origin: str) -> list[Axis] | None:
    """The two axes that a table of positions makes of one axis, if it holds windows that slide along the axis:
    the windows, and the positions in a window, in the order of the table. None for any other table.

        [[0, 1], [2, 3]]    rows of the table are windows, next to each other: y2/2 y2
        [[0, 2], [1, 3]]    columns of the table are windows: y2 y2/2
        [[0, 1, 2], [1, 2, 3]]    windows that overlap: the axis of windows is a grid of its own

    Positions in a window are closer to each other than windows are; if they are as close, there are fewer of
    them.
    """
    steps = [np.unique(np.diff(index, axis=i)) for i in (0, 1)]
    if len(kinds(axis)) != 1 or any(distances.size != 1 for distances in steps):
        return None
    within = int((steps[1][0], index.shape[1]) < (steps[0][0], index.shape[0]))
    length, count = index.shape[within], index.shape[1 - within]
    kind, factor = next(iter(kinds(axis))), axis[0]
    windows = new_axis(kind, count, origin)
    positions: Axis = (Factor(kind, length, f"{origin}.within"),)
    is_partition = np.array_equal(np.sort(index, None), range(size))
    if isinstance(factor, Factor) and len(axis) == 1 and is_partition:
        windows = (replace(factor, size=count, stride=factor.stride * length),)
        positions = (replace(factor, size=length),)
    return [windows, positions] if within else [positions, windows]


def with_extra_tokens(cells: tuple[Factor, ...], before: int | None, after: int | None) -> Axis:
    """An axis of cells with that many other tokens before and after them; None for an unknown number."""
    if before == after == 0:
        return cells
    size = sum_sizes([before, size_of(cells), after])
    return (Tokens(size, cells, before, after),)


def as_tokens(axis: Axis) -> Tokens | None:
    """The axis as tokens, if it holds the rows and columns of one grid."""
    if len(axis) == 1 and isinstance(axis[0], Tokens):
        return axis[0]
    factors = tuple(factor for factor in axis if isinstance(factor, Factor))
    if len(factors) < len(axis) or kinds(axis) != {ROWS, COLUMNS}:
        return None
    return Tokens(size_of(factors), factors, 0, 0)


def sum_sizes(sizes: Sequence[Dim]) -> int | None:
    """The sum of the sizes; None if one of them is not a number."""
    numbers = [size for size in sizes if isinstance(size, int)]
    return sum(numbers) if len(numbers) == len(sizes) else None
