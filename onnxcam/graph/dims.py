"""Sizes of axes: numbers, names (equal names are equal sizes), or None where nothing is known."""

from __future__ import annotations

from collections.abc import Sequence

from onnxcam.arrays import Dim, Shape


def is_static(shape: Shape | None) -> bool:
    """Whether every dimension is a number."""
    return shape is not None and all(isinstance(dim, int) for dim in shape)


def broadcast_dim(first: Dim, second: Dim) -> Dim:
    """The size that two sizes are broadcast to; None if that depends on unknown sizes."""
    if 1 in (first, second):
        return second if first == 1 else first
    number = next((dim for dim in (first, second) if isinstance(dim, int)), None)  # more than 1
    return first if first == second else number


def broadcast_named_dim(first: Dim, second: Dim) -> Dim:
    """The same, but `max(a,b)` of two names."""
    dim = broadcast_dim(first, second)
    is_undecided = dim is None and first is not None and second is not None
    return f"max({first},{second})" if is_undecided else dim


def broadcast_shapes(first: Sequence[Dim], second: Sequence[Dim]) -> Shape:
    """The shape that two shapes are broadcast to, aligned at the last axis."""
    rank = max(len(first), len(second))
    aligned = ((1,) * (rank - len(shape)) + tuple(shape) for shape in (first, second))
    return tuple(broadcast_dim(*pair) for pair in zip(*aligned, strict=True))


def merge_shapes(first: Sequence[Dim] | None, second: Sequence[Dim] | None) -> Shape | None:
    """One shape from two sources; the first has priority where both are known."""
    if first is None or second is None:
        shape = second if first is None else first
        return None if shape is None else tuple(shape)
    if len(first) != len(second):
        return tuple(first)
    return tuple(b if a is None else a for a, b in zip(first, second, strict=True))


def name_unknown_dims(tensor: str, shape: Sequence[Dim]) -> list[Dim]:
    """The shape with a new name for each unknown size, so that operators visibly keep it."""
    return [f"{tensor}.{axis}" if dim is None else dim for axis, dim in enumerate(shape)]
