"""What the axes of a tensor hold, as factors: the batch, channels, rows and columns of a grid of cells.

A Reshape splits and joins axes. Taken as products of factors it can be followed exactly: (N, C, h w) holds
rows and columns in one axis, a Swin window holds the inner part of both, and joined again they are the
grid that they were. No size is guessed, and no square root is taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from onnxcam.arrays import Dim, Shape

BATCH, CHANNELS, ROWS, COLUMNS, MOVED, EXTRA = "n", "c", "y", "x", "moved", "extra"


@dataclass(frozen=True)
class Factor:
    """A part of an axis. `stride` says which part of its `origin` (of `total` steps) it counts: of 16 rows cut
    into 4 windows of 4, the window has stride 4, the row in it stride 1.
    """

    kind: str
    size: Dim
    origin: str
    stride: int = 1
    total: Dim = None

    @property
    def outermost(self) -> bool:
        """Whether neighbours along this factor are neighbours in the picture, and it spans all of it."""
        if not isinstance(self.size, int):
            return self.size == self.total
        return self.size * self.stride == self.total


@dataclass(frozen=True)
class Tokens:
    """A grid of cells in one axis, and tokens that are no cells (class, registers) before or after it."""

    size: Dim
    cells: tuple[Factor, ...]
    before: int | None  # None: some, how many is not known yet
    after: int | None

    def of_size(self, size: Dim) -> Tokens:
        """The same with what the whole size tells of the extra tokens."""
        inner, known = size_of(self.cells), self.before is not None and self.after is not None
        if known or not isinstance(size, int) or not isinstance(inner, int):
            return replace(self, size=size if isinstance(size, int) else self.size)
        extra = size - inner - (self.before or 0) - (self.after or 0)
        if self.before is None and self.after is None:
            return replace(self, size=size)
        before = extra if self.before is None else self.before
        after = extra if self.after is None else self.after
        return Tokens(size, self.cells, before, after)


Axis: TypeAlias = tuple[Factor | Tokens, ...]
Axes: TypeAlias = tuple[Axis, ...]


def new_axis(kind: str, size: Dim, origin: str) -> Axis:
    """An axis of one new factor."""
    return () if size == 1 and kind != BATCH else (Factor(kind, size, origin, 1, size),)


def size_of(axis: Sequence[Factor | Tokens]) -> Dim:
    """The product of the factors, None where one is not a number."""
    size = 1
    for each in axis:
        if not isinstance(each.size, int):
            return each.size if len(axis) == 1 else None
        size *= each.size
    return size


def kinds(axis: Axis) -> set[str]:
    """What kinds of factors an axis holds; the cells' inside of tokens."""
    found = set()
    for each in axis:
        found |= {cell.kind for cell in each.cells} if isinstance(each, Tokens) else {each.kind}
    return found


def holds_cells(axis: Axis) -> bool:
    """Whether places of the picture lie along the axis."""
    return bool(kinds(axis) & {ROWS, COLUMNS, MOVED})


def fitted(axes: Axes, shape: Shape) -> Axes:
    """The axes with what the tensor's sizes tell of the tokens in them."""
    return tuple(
        (axis[0].of_size(dim),) if len(axis) == 1 and isinstance(axis[0], Tokens) else axis
        for axis, dim in zip(axes, shape, strict=True)
    )


def regrouped(axes: Axes, shape: Shape) -> Axes | None:
    """The factors dealt out to the axes of another shape in the same order; None if that cannot be told.

    One size may be unknown: the sizes right and left of it are filled first, and it takes the rest.
    """
    rest = [each for axis in axes for each in axis if each.size != 1 or _is_batch(each)]
    groups: list[Axis] = [()] * len(shape)
    left, right = 0, len(shape)
    while right > left and (group := _taken(rest, shape[right - 1], True)) is not None:
        right -= 1
        groups[right] = group
    while left < right - 1 and (group := _taken(rest, shape[left], False)) is not None:
        groups[left] = group
        left += 1
    if right - left > 1 or (right == left and any(each.size != 1 for each in rest)):
        return None
    if (
        right - left == 1
        and isinstance(shape[left], int)
        and size_of(rest) not in (None, shape[left])
    ):
        return None
    if rest and groups:
        groups[left] = (*rest, *groups[left])
    return tuple(_joined(group) for group in groups)


def _is_batch(factor: Factor | Tokens) -> bool:
    return isinstance(factor, Factor) and factor.kind == BATCH


def _taken(rest: list[Factor | Tokens], dim: Dim, from_right: bool) -> Axis | None:
    """Factors of a product `dim` taken from one end of the rest, the last one split if need be; None, and
    nothing is taken, if there are none.
    """
    if not isinstance(dim, int):
        same = rest and dim is not None and rest[-1 if from_right else 0].size == dim
        return (rest.pop(-1 if from_right else 0),) if same else None
    kept, need, found = list(rest), dim, []
    while need != 1:  # numbers only from here on
        if not rest or not isinstance(rest[-1 if from_right else 0].size, int):
            rest[:] = kept
            return None
        found.append(rest.pop(-1 if from_right else 0))
        size = int(found[-1].size or 0)
        if not size:  # any number of parts of nothing is nothing
            rest[:] = kept
            return None
        if need % size:
            parts = _split(found.pop(), need, from_right)
            if parts is None:
                rest[:] = kept
                return None
            found.append(parts[0])
            rest.insert(len(rest) if from_right else 0, parts[1])
            size = need
        need //= size
    return tuple(reversed(found) if from_right else found)


def _split(factor: Factor | Tokens, size: int, from_right: bool) -> tuple[Factor, Factor] | None:
    """The inner (or outer) part of that size, and what is left of the factor."""
    if isinstance(factor, Tokens) or not isinstance(factor.size, int) or factor.size % size:
        return None
    left = factor.size // size
    if from_right:
        return replace(factor, size=size), replace(factor, size=left, stride=factor.stride * size)
    return replace(factor, size=size, stride=factor.stride * left), replace(factor, size=left)


def _joined(group: Axis) -> Axis:
    """Neighbouring parts of one origin as one part again."""
    found: list[Factor | Tokens] = []
    for each in group:
        last = found[-1] if found else None
        if isinstance(last, Factor) and isinstance(each, Factor) and _follows(last, each):
            found[-1] = replace(each, size=size_of((last, each)))
        else:
            found.append(each)
    return tuple(found)


def _follows(outer: Factor, inner: Factor) -> bool:
    numbers = isinstance(outer.size, int) and isinstance(inner.size, int)
    return (
        numbers
        and outer.origin == inner.origin
        and outer.stride == inner.stride * int(inner.size or 0)
    )


@dataclass(frozen=True)
class GridLocation:
    """Where a tensor holds its channels and cells; see `Layer`."""

    channel_axis: int
    cells: tuple[Dim, Dim] | None = None
    before: int = 0
    after: int = 0


def locate_grid(axes: Axes, shape: Shape) -> GridLocation | None:
    """Where a tensor of pictures holds a grid of more than one cell; None if it holds none, or one that
    is not the picture's: windows, pairs of tokens, rows that were rolled.
    """
    if len(axes) not in (3, 4) or kinds(axes[0]) - {BATCH}:
        return None
    return _place_of_tokens(axes) if len(axes) == 3 else _place_of_grid(axes, shape)


def _place_of_tokens(axes: Axes) -> GridLocation | None:
    held = [i for i in (1, 2) if holds_cells(axes[i]) and not _inner(axes[i])]
    if len(held) != 1:
        return None
    axis = axes[held[0]]
    whole = axis[0] if len(axis) == 1 and isinstance(axis[0], Tokens) else None
    cells = whole.cells if whole else axis
    if whole and (whole.before is None or whole.after is None):
        return None
    if [_kind(each) for each in cells] != [ROWS, COLUMNS] or size_of(cells) == 1:
        return None
    before, after = (whole.before or 0, whole.after or 0) if whole else (0, 0)
    return GridLocation(3 - held[0], (cells[0].size, cells[1].size), before, after)


def _place_of_grid(axes: Axes, shape: Shape) -> GridLocation | None:
    for rows, channel in ((2, 1), (1, 3)):
        pair = axes[rows], axes[rows + 1]
        fits = all(
            [_kind(each) for each in axis] == [kind] or (not axis and shape[rows + i] == 1)
            for i, (axis, kind) in enumerate(zip(pair, (ROWS, COLUMNS), strict=True))
        )
        if fits and any(pair) and (not holds_cells(axes[channel]) or _inner(axes[channel])):
            return GridLocation(channel)
    return None


def _kind(factor: Factor | Tokens) -> str | None:
    """The kind of a factor that spans its origin."""
    return factor.kind if isinstance(factor, Factor) and factor.outermost else None


def _inner(axis: Axis) -> bool:
    """Whether the cells in an axis are but parts of larger ones, as after a patch embedding."""
    return not any(
        isinstance(each, Tokens) or (each.kind in (ROWS, COLUMNS) and each.outermost)
        for each in axis
    )
