"""What the axes of a tensor hold: the batch, channels, rows and columns of the image's grid, as factors.

Each axis is a product of factors, so that a Reshape, which splits and joins axes, can be followed exactly:

    (2, 3, 4, 6)         n2  c3  y4  x6        images of 4 rows and 6 columns
    (2, 3, 24)           n2  c3  y4·x6         after a Reshape: cells row by row in one axis
    (2, 24, 3)           n2  y4·x6  c3         after a Transpose: tokens
    (2, 2, 2, 3, 2, 3)   n2  y2/2  y2  x3/2  x2  c3    after a Reshape: the rows as 2 windows (y2/2, stride 2)
                                               of 2 rows (y2), the columns as 3 windows of 2

Joined again in this order, y2/2 and y2 are y4. Joined in another order they are not: the rows are then no
longer in the order of the image, and no map can be drawn on the tensor. Nothing is inferred from sizes that
look square.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeAlias

from onnxcam.arrays import Dim, Shape
from onnxcam.graph.symbolic_sizes import split_product

# Kinds of factors. MOVED: cells, but not in the order of the image. EXTRA: tokens that are not cells.
BATCH, CHANNELS, ROWS, COLUMNS, MOVED, EXTRA = "n", "c", "y", "x", "moved", "extra"


@dataclass(frozen=True)
class Factor:
    """A factor of an axis. `origin` names the axis that it was split from and `total` the size of that;
    neighbors along the factor are `stride` apart along it. Of 16 rows in 4 windows of 4 rows, the windows have
    stride 4 and the rows in a window stride 1.
    """

    kind: str
    size: Dim
    origin: str
    stride: int = 1
    total: Dim = None

    @property
    def spans_origin(self) -> bool:
        """Whether it reaches from one end of its origin to the other: all of it, or its outermost factor."""
        if not isinstance(self.size, int):
            return self.size == self.total
        return self.size * self.stride == self.total


@dataclass(frozen=True)
class Tokens:
    """An axis with the cells of a grid, and tokens before or after them that are not cells: a class token,
    registers. `before` and `after` count these; None if their number is not known yet.
    """

    size: Dim
    cells: tuple[Factor, ...]
    before: int | None
    after: int | None

    def with_size(self, size: Dim) -> Tokens:
        """The tokens in an axis of that size, from which a missing count follows: of 7 tokens with 6 cells and
        none after them, 1 is before them.
        """
        cells, is_counted = size_of(self.cells), self.before is not None and self.after is not None
        if is_counted or not isinstance(size, int) or not isinstance(cells, int):
            return replace(self, size=size if isinstance(size, int) else self.size)
        remaining = size - cells - (self.before or 0) - (self.after or 0)
        if self.before is None and self.after is None:
            return replace(self, size=size)
        before = remaining if self.before is None else self.before
        after = remaining if self.after is None else self.after
        return Tokens(size, self.cells, before, after)


Axis: TypeAlias = tuple[Factor | Tokens, ...]
Axes: TypeAlias = tuple[Axis, ...]


def new_axis(kind: str, size: Dim, origin: str) -> Axis:
    """An axis that is its own origin."""
    return () if size == 1 and kind != BATCH else (Factor(kind, size, origin, 1, size),)


def size_of(axis: Sequence[Factor | Tokens]) -> Dim:
    """The product of the factors' sizes; None if it is not a number, unless it is one size with a name."""
    size = 1
    for factor in axis:
        if not isinstance(factor.size, int):
            return factor.size if len(axis) == 1 else None
        size *= factor.size
    return size


def kinds(axis: Axis) -> set[str]:
    """The kinds of the factors of an axis; of tokens, those of the cells among them."""
    return {
        part.kind
        for factor in axis
        for part in (factor.cells if isinstance(factor, Tokens) else (factor,))
    }


def holds_cells(axis: Axis) -> bool:
    """Whether positions of the image lie along the axis, in whatever order."""
    return bool(kinds(axis) & {ROWS, COLUMNS, MOVED})


def count_tokens(axes: Axes, shape: Shape) -> Axes:
    """The axes with the counts of extra tokens that follow from the sizes of the tensor."""
    return tuple(
        (axis[0].with_size(dim),) if len(axis) == 1 and isinstance(axis[0], Tokens) else axis
        for axis, dim in zip(axes, shape, strict=True)
    )


def regroup(axes: Axes, shape: Shape) -> Axes | None:
    """The axes after a Reshape to `shape`: the same factors in the same order, split where an axis ends.

    One size of the shape may be unknown: the axes to the right and to the left of it are filled first, and
    it gets the remaining factors. None if the factors do not fit.
    """
    factors = [factor for axis in axes for factor in axis if factor.size != 1 or _is_batch(factor)]
    single = next((i for i, factor in enumerate(factors) if factor.size == 1), None)
    image = () if single is None else (factors.pop(single),)
    groups = _group(list(factors), shape)
    if groups and single is not None:
        groups = _insert_image(image, groups, _group_of(factors, single, groups), shape)
    return None if groups is None else tuple(_merge_factors(group) for group in groups)


def _insert_image(image: Axis, groups: Axes, before: int, shape: Shape) -> Axes:
    """The groups with a batch of one image: in an axis of its own if there is one right before a group, else in
    that group, as with N x heads.
    """
    index = before
    while index and not groups[index - 1] and shape[index - 1] == 1:
        index -= 1
    index = min(index, len(groups) - 1)
    return (*groups[:index], (*image, *groups[index]), *groups[index + 1 :])


def _group_of(factors: Sequence[Factor | Tokens], number: int, groups: Axes) -> int:
    """The group with the first part of the factor of this number; the number of groups if there is none."""
    current, size = 0, 1
    for index, group in enumerate(groups):
        for part in group:
            if current == number:
                return index
            full = factors[current].size
            size *= part.size if isinstance(part.size, int) else 1
            if full in (part.size, size):
                current, size = current + 1, 1
    return len(groups)


def _group(factors: list[Factor | Tokens], shape: Shape) -> Axes | None:
    """The factors, in order, as axes of a shape; None if they do not fit."""
    groups: list[Axis] = [()] * len(shape)
    left, right = 0, len(shape)
    while right > left and (group := _take_factors(factors, shape[right - 1], -1)) is not None:
        right -= 1
        groups[right] = group
    while left < right - 1 and (group := _take_factors(factors, shape[left], 0)) is not None:
        groups[left] = group
        left += 1
    if right - left > 1 or (right == left and any(factor.size != 1 for factor in factors)):
        return None
    if right - left == 1:
        dim, remaining = shape[left], size_of(factors)
        if isinstance(dim, int) and remaining not in (None, dim):
            return None
    if factors and groups:
        groups[left] = (*factors, *groups[left])
    return tuple(groups)


def _is_batch(factor: Factor | Tokens) -> bool:
    return isinstance(factor, Factor) and factor.kind == BATCH


def _take_factors(factors: list[Factor | Tokens], dim: Dim, end: int) -> Axis | None:
    """Remove factors of a product `dim` (a number, "N", or "4x[N]") from the front (`end` 0) or the back (-1)
    of the list, in place, and return them in order; the last one is split if necessary. None, and nothing is
    removed, if that fails.
    """
    if dim is None:
        return None
    rest, selected = list(factors), list[Factor | Tokens]()
    missing, name = split_product(dim) if isinstance(dim, str) else (dim, None)
    while missing != 1 or name is not None:
        factor = rest.pop(end) if rest else None
        if factor is not None and factor.size == name is not None:
            selected.append(factor)
            name = None
            continue
        if factor is None or not isinstance(factor.size, int) or not factor.size or missing == 1:
            return None
        if missing % factor.size:
            parts = _split_factor(factor, missing, end)
            if parts is None:
                return None
            factor = parts[0]
            rest.insert(len(rest) if end else 0, parts[1])
        selected.append(factor)
        missing //= int(factor.size or 1)
    factors[:] = rest
    return tuple(reversed(selected) if end else selected)


def _split_factor(factor: Factor | Tokens, size: int, end: int) -> tuple[Factor, Factor] | None:
    """A factor of that size from the outer (`end` 0) or inner end (-1) of a factor, and the remaining one."""
    if isinstance(factor, Tokens) or not isinstance(factor.size, int) or factor.size % size:
        return None
    rest = factor.size // size
    if end:
        return replace(factor, size=size), replace(factor, size=rest, stride=factor.stride * size)
    return replace(factor, size=size, stride=factor.stride * rest), replace(factor, size=rest)


def _merge_factors(axis: Axis) -> Axis:
    """The axis with adjacent factors of one origin joined: y2/2·y2 is y4."""
    merged: list[Factor | Tokens] = []
    for factor in axis:
        outer = merged[-1] if merged else None
        if (
            isinstance(outer, Factor)
            and isinstance(factor, Factor)
            and _are_adjacent(outer, factor)
        ):
            merged[-1] = replace(factor, size=size_of((outer, factor)))
        else:
            merged.append(factor)
    return tuple(merged)


def _are_adjacent(outer: Factor, inner: Factor) -> bool:
    return (
        isinstance(outer.size, int)
        and isinstance(inner.size, int)
        and outer.origin == inner.origin
        and outer.stride == inner.stride * inner.size
    )


@dataclass(frozen=True)
class GridLocation:
    """Where a tensor holds its channels and cells, as in `Layer`: of (N, T, C), `cells` is the grid and
    `before` and `after` count the tokens that are not cells.
    """

    channel_axis: int
    cells: tuple[Dim, Dim] | None = None
    before: int = 0
    after: int = 0


def locate_grid(axes: Axes, shape: Shape) -> GridLocation | None:
    """Where a tensor holds a grid of more than one cell for each image. None if it holds none, or not the grid
    of the image: windows, pairs of tokens, rows that were rolled.
    """
    if len(axes) not in (3, 4) or kinds(axes[0]) - {BATCH}:
        return None
    return _locate_tokens(axes) if len(axes) == 3 else _locate_rows_and_columns(axes, shape)


def _locate_tokens(axes: Axes) -> GridLocation | None:
    token_axes = [i for i in (1, 2) if holds_cells(axes[i]) and not is_within_cells(axes[i])]
    grid = grid_of_tokens(axes[token_axes[0]]) if len(token_axes) == 1 else None
    if grid is None or grid.height == grid.width == 1:
        return None
    return GridLocation(3 - token_axes[0], (grid.height, grid.width), grid.before, grid.after)


class TokenGrid(NamedTuple):
    """The grid of the cells among the tokens of an axis, and how many other tokens are before and after it."""

    before: int
    height: Dim
    width: Dim
    after: int


def grid_of_tokens(axis: Axis) -> TokenGrid | None:
    """The grid of an axis of tokens. None if it does not hold the complete grid of the image, in its order, or
    if the number of other tokens is not known.
    """
    tokens = axis[0] if len(axis) == 1 and isinstance(axis[0], Tokens) else None
    cells = tokens.cells if tokens else axis
    before, after = (tokens.before, tokens.after) if tokens else (0, 0)
    if before is None or after is None:
        return None
    if [_kind_of_all(factor) for factor in cells] != [ROWS, COLUMNS]:
        return None
    height, width = (factor.size for factor in cells)
    return TokenGrid(before, height, width, after)


def _locate_rows_and_columns(axes: Axes, shape: Shape) -> GridLocation | None:
    for rows, channel in ((2, 1), (1, 3)):
        grid = axes[rows], axes[rows + 1]
        fits = all(
            [_kind_of_all(factor) for factor in axis] == [kind]
            or (not axis and shape[rows + i] == 1)
            for i, (axis, kind) in enumerate(zip(grid, (ROWS, COLUMNS), strict=True))
        )
        channels = not holds_cells(axes[channel]) or is_within_cells(axes[channel])
        if fits and any(grid) and channels:
            return GridLocation(channel)
    return None


def _kind_of_all(factor: Factor | Tokens) -> str | None:
    """The kind of a factor that spans its origin."""
    return factor.kind if isinstance(factor, Factor) and factor.spans_origin else None


def is_within_cells(axis: Axis) -> bool:
    """Whether its rows and columns lie within larger cells: the pixels of a patch, which became features."""
    return not any(
        isinstance(factor, Tokens) or (factor.kind in (ROWS, COLUMNS) and factor.spans_origin)
        for factor in axis
    )
