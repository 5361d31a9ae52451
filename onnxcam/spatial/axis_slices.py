"""What an axis holds after it was cut, stretched, or put together with others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxcam.arrays import Dim
from onnxcam.graph.window import LONGEST
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
    """Of two operands the axis that says more of the picture is believed."""
    found = kinds(axis)
    return 3 * bool(found & {ROWS, COLUMNS}) + 2 * (MOVED in found) + bool(found)


def same_size(size: Dim, dim: Dim) -> bool:
    """Whether an axis of that size goes on in one of size `dim`; names that differ may be one size."""
    if isinstance(size, int) and isinstance(dim, int):
        return size == dim
    return size == dim or not isinstance(size, int)


def resized_axis(axis: Axis, dim: Dim, origin: str) -> Axis:
    """The axis after its size was changed by an operator that keeps its meaning."""
    found = kinds(axis)
    kind = next(iter(found)) if len(found) == 1 else MOVED if holds_cells(axis) else CHANNELS
    return new_axis(kind, dim, origin)


def slice_axis(axis: Axis, size: int, places: Sequence[int], origin: str) -> Axis:
    """Some places of an axis."""
    if places == range(size):
        return axis
    if len(places) > LONGEST:
        return new_axis(MOVED, len(places), origin)
    if len(places) == size and list(places) == list(range(size)):
        return axis
    if len(axis) == 1 and isinstance(axis[0], Tokens):
        return _part_of_tokens(axis[0], places, origin)
    flat = len(axis) > 1 and holds_cells(axis)
    return new_axis(MOVED, len(places), origin) if flat else resized_axis(axis, len(places), origin)


def _part_of_tokens(tokens: Tokens, places: Sequence[int], origin: str) -> Axis:
    cells = size_of(tokens.cells)
    if tokens.before is None or tokens.after is None or not isinstance(cells, int):
        return new_axis(MOVED, len(places), origin)
    inside = [each - tokens.before for each in places if 0 <= each - tokens.before < cells]
    if not inside:
        return new_axis(EXTRA, len(places), origin)
    before = sum(each < tokens.before for each in places)
    whole = list(range(places[0], places[0] + len(places))) == list(places)
    if not whole or len(inside) < cells:
        return new_axis(MOVED, len(places), origin)
    return with_extras(tokens.cells, before, len(places) - before - cells)


def unfold_axis(axis: Axis, size: int, index: NDArray[Any], origin: str) -> list[Axis] | None:
    """The two axes that a table of places makes of one where it holds windows that slide over the axis: the
    windows, and the places in a window, in the table's order. None for any other table. Neighbours in a
    window are nearer than windows are, or there are fewer of them.
    """
    steps = [np.unique(np.diff(index, axis=i)) for i in (0, 1)]
    if len(kinds(axis)) != 1 or any(each.size != 1 for each in steps):
        return None
    within = int((steps[1][0], index.shape[1]) < (steps[0][0], index.shape[0]))
    inner, count = index.shape[within], index.shape[1 - within]
    kind, only = next(iter(kinds(axis))), axis[0]
    windows, places = new_axis(kind, count, origin), (Factor(kind, inner, f"{origin}.within"),)
    if (
        isinstance(only, Factor)
        and len(axis) == 1
        and np.array_equal(np.sort(index, None), range(size))
    ):
        windows = (replace(only, size=count, stride=only.stride * inner),)
        places = (replace(only, size=inner),)
    return [windows, places] if within else [places, windows]


def with_extras(cells: tuple[Factor, ...], before: int | None, after: int | None) -> Axis:
    """An axis of cells with so many other tokens before and after them."""
    if before == after == 0:
        return cells
    size = total([before, size_of(cells), after])
    return (Tokens(size, cells, before, after),)


def as_tokens(axis: Axis) -> Tokens | None:
    """The axis as tokens, if it holds the rows and columns of one grid."""
    if len(axis) == 1 and isinstance(axis[0], Tokens):
        return axis[0]
    factors = tuple(each for each in axis if isinstance(each, Factor))
    if len(factors) < len(axis) or kinds(axis) != {ROWS, COLUMNS}:
        return None
    return Tokens(size_of(factors), factors, 0, 0)


def total(sizes: Sequence[Dim]) -> int | None:
    """The sum of the sizes, None if one of them is not known."""
    return sum(int(each or 0) for each in sizes) if all(isinstance(e, int) for e in sizes) else None
