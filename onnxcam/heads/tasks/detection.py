"""Detection: scores of boxes."""

from __future__ import annotations

from collections.abc import Sequence

from onnxcam.arrays import Dim
from onnxcam.heads.detection_columns import BOX
from onnxcam.heads.head import Head
from onnxcam.model.model import Model


def detection_reason(model: Model, heads: Sequence[Head]) -> str | None:
    """Why the heads score boxes; None if nothing says so."""
    first = heads[0]
    if first.class_columns is not None:
        return f"each position of {first.output.name} holds a box next to its classes"
    if not first.other_axes:
        return None
    if (companion := box_companion(model, heads)) is not None:
        return f"{companion} holds a box for each position of {first.output.name}"
    if len({_positions(head) for head in heads}) > 1:
        return (
            f"{', '.join(head.output.name for head in heads)} score the positions of several grids"
        )
    return None


def box_companion(model: Model, heads: Sequence[Head]) -> str | None:
    """The name of an output with the numbers of a box for each position of the first head; None without one."""
    first = heads[0]
    names = {head.output.name for head in heads}
    positions = [first.logits.shape[axis] for axis in first.other_axes]
    for output in model.graph.outputs:
        if output.name in names or output.shape is None:
            continue
        sizes = [dim for dim in output.shape if dim != 1]
        others = _without(sizes, positions)
        if others is not None and any(isinstance(dim, int) and dim % BOX == 0 for dim in others):
            return str(output.name)
    return None


def _without(sizes: Sequence[Dim], positions: Sequence[Dim]) -> list[Dim] | None:
    """The sizes but those of the positions; None if one of these is missing."""
    remaining = list(sizes)
    for dim in positions:
        if dim not in remaining:
            return None
        remaining.remove(dim)
    return remaining


def _positions(head: Head) -> tuple[Dim, ...]:
    return tuple(head.logits.shape[axis] for axis in head.other_axes)
