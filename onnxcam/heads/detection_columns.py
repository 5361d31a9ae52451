"""Which numbers of a detection are its classes: those after the box, and before a mask."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import onnx_graphsurgeon as gs

from onnxcam.graph.operators import only_reshapes, traits_of
from onnxcam.graph.reachability import is_float, producer
from onnxcam.heads.axis_slice import AxisSlice, axis_in_source, writer
from onnxcam.heads.mixed_probabilities import mixed_logits
from onnxcam.heads.output_activation import find_output_activation

BOX = 4  # numbers of a box: an output with so many holds no classes if there is another output
MASK = 32  # numbers of a mask in Ultralytics models
BINS = 64  # numbers of a box in Ultralytics models, before it is decoded


@dataclass(frozen=True)
class ClassColumns:
    """Numbers `start` to `stop` of a detection are its classes.

    `objectness` is the position of the number that says whether there is an object at all; `logits` the tensor
    that holds the classes before their Sigmoid. `are_logits` says that classes and objectness are logits, not
    probabilities. Of several boxes in a cell (`anchors`), the numbers follow one after the other.
    """

    start: int
    stop: int
    objectness: int | None = None
    logits: str | None = None
    are_logits: bool = False
    anchors: int = 1

    @property
    def is_probability(self) -> bool:
        """Whether the scores that are explained are probabilities: not logits, or a product with objectness."""
        return self.objectness is not None or (self.logits is None and not self.are_logits)


class ConcatSlice(NamedTuple):
    """Numbers `start` to `stop` along the axis of a Concat, and the operand that they come from, in which the
    numbers of a detection lie along `axis`.
    """

    start: int
    stop: int
    tensor: gs.Tensor
    axis: int

    @property
    def width(self) -> int:
        """How many numbers."""
        return self.stop - self.start


def class_columns(
    tensor: gs.Tensor, axis: int, labels: int | None, metadata: Mapping[str, str]
) -> ClassColumns | None:
    """The classes among the numbers of each detection; None if all of them are classes."""
    size, (joined, is_direct) = int(tensor.shape[axis]), concat_slices(tensor, axis)
    slices = [part for slice_ in joined for part in _parts(slice_)]
    columns = None if labels is None else columns_by_labels(size, labels, metadata)
    if columns is None and (labels is None or size not in (labels, labels + 1)):
        columns = _columns_by_operators(slices)
    if columns is None:
        return None
    position = columns.start if columns.objectness is None else columns.objectness
    sources = [slice_.tensor for slice_ in slices if slice_.start <= position < slice_.stop]
    are_logits = not any(map(_is_probability, (tensor, *sources)))
    columns = replace(columns, are_logits=are_logits)
    return _with_logits(columns, slices) if is_direct else columns


def _is_probability(tensor: gs.Tensor) -> bool:
    return bool(find_output_activation(tensor) or mixed_logits(tensor))


def columns_by_labels(size: int, labels: int, metadata: Mapping[str, str]) -> ClassColumns | None:
    """The classes of detections of `size` numbers by the number of labels, as in Ultralytics models."""
    task, numbers_besides = metadata.get("task", "").strip().lower(), size - labels
    points = _key_points(metadata)
    numbers_of_task = {"obb": 1, "segment": MASK, "pose": points or -1}.get(task, 0)
    for start in (BOX, BOX + 1, BINS):
        numbers_after = {numbers_of_task} if task else {0, MASK, points}
        if numbers_besides - start in numbers_after:
            return ClassColumns(start, start + labels, BOX if start == BOX + 1 else None)
    return None


def holds_class_index(tensor: gs.Tensor, axis: int, metadata: Mapping[str, str]) -> bool:
    """Whether one of the numbers is a class index: an integer, which no derivative flows through."""
    if metadata.get("end2end") == "True" or "'nms': True" in metadata.get("args", ""):
        return True
    for slice_ in concat_slices(tensor, axis)[0]:
        current = slice_.tensor
        while (node := producer(current)) is not None and only_reshapes(traits_of(node)):
            current = node.inputs[0]
        if not is_float(current) and not isinstance(current, gs.Constant):
            return True
    return False


def concat_slices(tensor: gs.Tensor, axis: int) -> tuple[list[ConcatSlice], bool]:
    """The operands that a Concat joined along the axis, and whether that Concat wrote the tensor itself: in
    between, the detections of several grids may have been joined, and the axes rearranged.
    """
    is_direct = True
    while (node := producer(tensor)) is not None:
        source = node.inputs[0]
        if node.op == "Concat":
            concat_axis = int(node.attrs["axis"]) % len(tensor.shape)
            if concat_axis == axis:
                return list(_concat_operands(node, axis)), is_direct
        elif node.op == "Transpose":
            axis = int(node.attrs.get("perm", range(len(tensor.shape))[::-1])[axis])
        elif (
            only_reshapes(traits_of(node))
            and (source_axis := axis_in_source(source, tensor, axis)) is not None
        ):
            axis = source_axis
        else:
            break
        tensor, is_direct = source, False
    return [], False


def _concat_operands(node: gs.Node, axis: int) -> Iterator[ConcatSlice]:
    start = 0
    for tensor in node.inputs:
        size = tensor.shape[axis] if tensor.shape else None
        if not isinstance(size, int):
            return
        yield ConcatSlice(start, start + size, tensor, axis)
        start += size


def _parts(slice_: ConcatSlice) -> Iterator[ConcatSlice]:
    """The numbers of a slice, separated where they were joined before: objectness and classes may have been cut
    out of a tensor that holds undecoded boxes, too.
    """
    start, _, tensor, axis = slice_
    node = producer(tensor)
    if node is None or node.op not in ("Slice", "Split"):
        yield slice_
        return
    numbers = writer(AxisSlice(tensor, axis, 0, slice_.width), joined=True)
    source = producer(numbers.tensor)
    if source is not None and source.op == "Concat":
        shift = start - numbers.start
        parts = [
            ConcatSlice(part.start + shift, part.stop + shift, part.tensor, part.axis)
            for part in _concat_operands(source, numbers.axis)
        ]
        yield from (part for part in parts if part.start < slice_.stop and part.stop > start)
    elif numbers.start == BOX and slice_.width > 1 and find_output_activation(numbers.tensor):
        yield ConcatSlice(start, start + 1, numbers.tensor, numbers.axis)  # the objectness
        yield ConcatSlice(start + 1, slice_.stop, numbers.tensor, numbers.axis)
    else:
        yield slice_


def _columns_by_operators(slices: list[ConcatSlice]) -> ClassColumns | None:
    """The classes by the operators: the widest slice after a Softmax or Sigmoid, if there is a box, too. If a
    single number besides has one, that is the objectness.
    """
    activated = [slice_ for slice_ in slices if find_output_activation(slice_.tensor)]
    width = sum(slice_.width for slice_ in slices)
    without_activation = width - sum(slice_.width for slice_ in activated)
    if not activated or (without_activation < BOX and len(activated) < 2):
        return None
    classes = max(reversed(activated), key=lambda slice_: slice_.width)
    if width - classes.width < BOX:
        return None
    single = [slice_.start for slice_ in activated if slice_.width == 1 and slice_ is not classes]
    return ClassColumns(classes.start, classes.stop, single[0] if len(single) == 1 else None)


def _with_logits(columns: ClassColumns, slices: list[ConcatSlice]) -> ClassColumns:
    """The columns with the logits of the classes, if these are a slice that nothing is multiplied by."""
    for slice_ in slices:
        if (slice_.start, slice_.stop) != (
            columns.start,
            columns.stop,
        ) or columns.objectness is not None:
            continue
        activation = find_output_activation(slice_.tensor)
        if activation is not None and activation.logits.shape == slice_.tensor.shape:
            return ClassColumns(columns.start, columns.stop, None, activation.logits.name)
    return columns


def _key_points(metadata: Mapping[str, str]) -> int:
    """How many numbers the key points of a detection take, 0 if it has none."""
    try:
        return int(np.prod(ast.literal_eval(metadata.get("kpt_shape", "0")), dtype=np.int64))
    except (ValueError, SyntaxError, TypeError):
        return 0
