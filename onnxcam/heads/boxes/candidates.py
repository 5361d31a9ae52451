"""The numbers of a detector that may be its boxes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from math import prod

import onnx_graphsurgeon as gs

from onnxcam.arrays import Dim
from onnxcam.dense import Columns
from onnxcam.errors import unknown
from onnxcam.graph.reachability import is_float
from onnxcam.heads.axis_slice import AxisSlice
from onnxcam.heads.boxes.form import BoxColumns
from onnxcam.heads.boxes.origin import before_image_size, find_origin
from onnxcam.heads.detection_columns import BOX
from onnxcam.heads.head import Head
from onnxcam.heads.output_tensors import unwrap_output
from onnxcam.heads.selection import tensors_before_selection
from onnxcam.model.channel_axis import image_layout
from onnxcam.model.model import Model


def box_candidates(
    model: Model, heads: Sequence[Head], name: str | None = None
) -> Iterator[BoxColumns]:
    """The numbers besides the scores in the tensor of each head, and other outputs with as many positions.
    `name` names the tensor that holds the boxes instead. UnknownNameError if there is no such tensor.
    """
    if name is not None:
        tensors = model.graph.tensors()
        if name not in tensors:
            raise unknown("tensor", name, tensors, "see `onnxcam layers --all`")
        yield from _other_tensors(model, heads, [tensors[name]])
        return
    if any(head.class_columns is not None and head.class_columns.anchors > 1 for head in heads):
        return  # the sizes of their anchors are not in the model
    if all(head.class_columns is not None for head in heads):
        yield from _own_columns(model, heads)
    scores = {tensor.name for head in heads for tensor in (head.output, head.logits)}
    outputs = [tensor for output in model.graph.outputs for tensor in unwrap_output(output)]
    others = [tensor for tensor in outputs if tensor.name not in scores]
    yield from _other_tensors(model, heads, others)
    for output in outputs:
        for tensor in tensors_before_selection(output):
            yield from _other_tensors(model, heads, [tensor])


def _own_columns(model: Model, heads: Sequence[Head]) -> Iterator[BoxColumns]:
    """The first numbers of each detection that are neither classes nor objectness."""
    columns = heads[0].class_columns
    axis = heads[0].class_axis
    if columns is None or axis is None:
        return
    size = int(heads[0].logits.shape[axis])
    others = set(range(size)) - set(range(columns.start, columns.stop)) - {columns.objectness}
    start = min(others, default=size)
    stop = next((i for i in range(start, size + 1) if i not in others), size)
    for width in (stop - start, BOX):
        if width % BOX == 0 and 0 < width <= stop - start:
            sources = [
                (
                    head.logits,
                    Columns(head.logits.name, axis, start, start + width, head.batch_axis),
                )
                for head in heads
            ]
            yield _describe(model, sources, objectness=columns.objectness, own=True)


def _other_tensors(
    model: Model, heads: Sequence[Head], tensors: Sequence[gs.Tensor]
) -> Iterator[BoxColumns]:
    """Groups of tensors with equally many numbers per box that have as many positions as the heads."""
    groups: defaultdict[int, list[tuple[gs.Tensor, Columns]]] = defaultdict(list)
    sizes = {t.name for t in model.graph.inputs if len(t.shape or ()) < len("NCHW")}
    for scaled in tensors:
        tensor = before_image_size(scaled, sizes)
        columns = _columns_of(tensor, heads)
        if columns is not None:
            groups[columns.width].append((tensor, columns))
    for sources in groups.values():
        ordered = _in_order_of_heads(sources, heads)
        if ordered:
            yield _describe(model, ordered)


def _columns_of(tensor: gs.Tensor, heads: Sequence[Head]) -> Columns | None:
    """The numbers of a tensor per position, if it may have the positions of a head or of all of them."""
    if not is_float(tensor) or tensor.shape is None:
        return None
    shape = list(tensor.shape)
    counts = [count_positions(head) for head in heads]
    total = None if None in counts else sum(filter(None, counts))
    for batch in _batch_axes(heads[0]):
        axes = [axis for axis in range(len(shape)) if axis != batch]
        for axis in reversed(axes):
            count = _count([shape[other] for other in axes if other != axis])
            is_box = isinstance(shape[axis], int) and shape[axis] % BOX == 0
            if is_box and len(axes) > 1 and (count is None or count in (*counts, total)):
                return Columns(tensor.name, axis, 0, int(shape[axis]), batch)
            if is_box and len(axes) > 1 and total is not None and count and count < total:
                return Columns(tensor.name, axis, 0, int(shape[axis]), batch)
    return None


def _batch_axes(head: Head) -> list[int | None]:
    return [0] if head.batch_axis is not None else [None, 0]


def _in_order_of_heads(
    sources: list[tuple[gs.Tensor, Columns]], heads: Sequence[Head]
) -> list[tuple[gs.Tensor, Columns]]:
    """The tensors with as many positions as the heads, head by head; in their own order if only the sums agree;
    empty if not even these do.
    """
    counts = [_count(_grid(*source)) for source in sources]
    head_counts = [count_positions(head) for head in heads]
    if None in counts or None in head_counts:
        return sources if len(sources) == len(heads) else []
    remaining = list(zip(counts, sources, strict=True))
    ordered = []
    for head_count in head_counts:
        match = next((pair for pair in remaining if pair[0] == head_count), None)
        if match is None:
            return sources if sum(filter(None, counts)) == sum(filter(None, head_counts)) else []
        remaining.remove(match)
        ordered.append(match[1])
    return ordered


def _grid(tensor: gs.Tensor, columns: Columns) -> tuple[int | None, ...]:
    """The sizes of the axes of positions."""
    others = (columns.axis, columns.batch_axis)
    dims = [dim for axis, dim in enumerate(tensor.shape) if axis not in others]
    return tuple(dim if isinstance(dim, int) else None for dim in dims)


def count_positions(head: Head) -> int | None:
    """How many positions a head scores; None if the graph leaves that free."""
    return _count([head.logits.shape[axis] for axis in head.other_axes])


def _count(dims: Sequence[Dim]) -> int | None:
    numbers = [dim for dim in dims if isinstance(dim, int)]
    return prod(numbers) if len(numbers) == len(dims) else None


def _describe(
    model: Model,
    sources: Sequence[tuple[gs.Tensor, Columns]],
    *,
    objectness: int | None = None,
    own: bool = False,
) -> BoxColumns:
    tensor, columns = sources[0]
    origin = find_origin(AxisSlice(tensor, columns.axis, columns.start, columns.stop))
    total = int(tensor.shape[columns.axis]) if own else columns.width
    image = next(t for t in model.graph.inputs if t.shape and len(t.shape) == len("NCHW"))
    layout = image_layout(model.graph, image.name)
    sizes = image.shape[2:] if layout == "NCHW" else image.shape[1:3]
    height, width = (dim if isinstance(dim, int) else None for dim in sizes)
    return BoxColumns(
        columns=tuple(columns for _, columns in sources),
        grids=tuple(_grid(*source) for source in sources),
        size=(height, width),
        raw=origin.raw,
        activation=origin.activation,
        layout=origin.layout,
        own=own,
        objectness=objectness,
        channels_last=layout == "NHWC",
        anchors=_anchors(origin.outputs, (total, columns.width)),
        metadata=dict(model.metadata),
    )


def _anchors(outputs: int | None, widths: Sequence[int]) -> int | None:
    """How many boxes a cell has, by how many numbers the last weights compute for it; None if it is unknown."""
    fitting = (outputs // width for width in widths if outputs and outputs % width == 0)
    return next(fitting, None)
