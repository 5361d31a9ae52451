"""Detection: scores of boxes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import onnx_graphsurgeon as gs

from onnxcam.arrays import Dim
from onnxcam.heads.detection_columns import BOX
from onnxcam.heads.head import Head
from onnxcam.heads.output_tensors import score_tensors
from onnxcam.model.model import Model

SIZE_AND_OFFSET = 2  # maps of numbers besides that of the centers


def detection_reason(model: Model, heads: Sequence[Head]) -> str | None:
    """Why the heads score boxes; None if nothing says so."""
    first = heads[0]
    if first.class_columns is not None:
        return f"each position of {first.output.name} holds a box next to its classes"
    if not first.other_axes:
        return None
    if (companion := box_companion(model, heads)) is not None:
        return f"{companion} holds a box for each position of {first.output.name}"
    if len(maps := companion_maps(model, first)) >= SIZE_AND_OFFSET:
        return f"{first.output.name} scores centers, and {', '.join(maps)} hold numbers for each of them"
    if len({head.position_sizes for head in heads}) > 1:
        return (
            f"{', '.join(head.output.name for head in heads)} score the positions of several grids"
        )
    return None


def box_companion(model: Model, heads: Sequence[Head]) -> str | None:
    """The name of an output with the numbers of a box for each position of the first head; None without one."""
    names = {head.output.name for head in heads}
    for tensor in _other_tensors(model, names):
        numbers = _numbers_per_position(tensor, heads[0])
        if any(isinstance(dim, int) and dim % BOX == 0 for dim in numbers):
            return str(tensor.name)
    return None


def companion_maps(model: Model, head: Head) -> list[str]:
    """The outputs with a map of 2 numbers for each position of a map of probabilities, such as the size and the
    offset of the box around a center.
    """
    if not head.is_map or head.output_activation != "Sigmoid":
        return []
    return [
        str(tensor.name)
        for tensor in _other_tensors(model, {head.output.name})
        if _numbers_per_position(tensor, head) == [len("xy")]
    ]


def _other_tensors(model: Model, names: set[str]) -> Iterator[gs.Tensor]:
    """What the outputs are made from, without the tensors with these names."""
    tensors = (tensor for output in model.graph.outputs for tensor in score_tensors(output))
    return (tensor for tensor in tensors if tensor.name not in names)


def _numbers_per_position(output: gs.Tensor, head: Head) -> list[Dim]:
    """The sizes of the axes of an output besides the batch and the positions of a head; empty if it does not
    have these positions.
    """
    remaining = [
        dim for axis, dim in enumerate(output.shape or ()) if axis != head.batch_axis and dim != 1
    ]
    for dim in head.position_sizes:
        if dim not in remaining:
            return []
        remaining.remove(dim)
    return remaining
