"""Which numbers of a detection are its classes: those after the box and before a mask."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import onnx_graphsurgeon as gs

from onnxcam.graph.operators import only_reshapes, traits_of
from onnxcam.graph.reachability import is_float, producer
from onnxcam.heads.output_activation import mixed_logits, unsquashed

BOX = 4  # numbers of a box: an output of so many holds no classes if there is another output
MASKS, BINS = (
    32,
    64,
)  # numbers in Ultralytics models: for the mask, and for a box before it is decoded


@dataclass(frozen=True)
class Columns:
    """Numbers `start` to `stop` of a detection are its classes. `objectness` is the position of the number that
    says whether there is an object at all; `logits` the tensor that holds the classes before their Sigmoid.
    `raw` says that the classes and the objectness are logits, not probabilities.
    """

    start: int
    stop: int
    objectness: int | None = None
    logits: str | None = None
    raw: bool = False


class Part(NamedTuple):
    """Numbers `start` to `stop` along an axis, and the tensor that they come from."""

    start: int
    stop: int
    tensor: gs.Tensor

    @property
    def width(self) -> int:
        """How many numbers."""
        return self.stop - self.start


def columns(
    tensor: gs.Tensor, axis: int, labels: int | None, metadata: Mapping[str, str]
) -> Columns | None:
    """The classes among the numbers of each detection; None if all of them are classes."""
    size, (parts, direct) = int(tensor.shape[axis]), parts_of(tensor, axis)
    own = None if labels is None else by_labels(size, labels, metadata)
    if own is None and (labels is None or size not in (labels, labels + 1)):
        own = _by_parts(parts)
    if own is not None and own.objectness is not None:
        holding = [part.tensor for part in parts if part.start <= own.objectness < part.stop]
        return replace(own, raw=not any(map(_is_probability, (tensor, *holding))))
    return _with_logits(own, parts) if own and direct else own


def _is_probability(tensor: gs.Tensor) -> bool:
    return bool(unsquashed(tensor) or mixed_logits(tensor))


def by_labels(size: int, labels: int, metadata: Mapping[str, str]) -> Columns | None:
    """The classes of detections of `size` numbers by the number of labels, as in Ultralytics models."""
    task, others = metadata.get("task", "").strip().lower(), size - labels
    points = _key_points(metadata)
    by_task = {"obb": 1, "segment": MASKS, "pose": points or -1}.get(task, 0)
    for start in (BOX, BOX + 1, BINS):
        after = {by_task} if task else {0, MASKS, points}
        if others - start in after:
            return Columns(start, start + labels, BOX if start == BOX + 1 else None)
    return None


def holds_class_index(tensor: gs.Tensor, axis: int, metadata: Mapping[str, str]) -> bool:
    """Whether one of the numbers is a class index: an integer, which no derivative flows through."""
    if metadata.get("end2end") == "True" or "'nms': True" in metadata.get("args", ""):
        return True
    for part in parts_of(tensor, axis)[0]:
        current = part.tensor
        while (node := producer(current)) is not None and only_reshapes(traits_of(node)):
            current = node.inputs[0]
        if not is_float(current) and not isinstance(current, gs.Constant):
            return True
    return False


def parts_of(tensor: gs.Tensor, axis: int) -> tuple[list[Part], bool]:
    """The parts that a Concat joined along the axis, and whether that Concat wrote the tensor itself: after it
    the detections of several grids may have been joined, and the axes rearranged.
    """
    direct = True
    while (node := producer(tensor)) is not None:
        source = node.inputs[0]
        if node.op == "Concat":
            along = int(node.attrs["axis"]) % len(tensor.shape)
            if along == axis:
                return list(_parts(node, axis)), direct
        elif node.op == "Transpose":
            axis = int(node.attrs.get("perm", range(len(tensor.shape))[::-1])[axis])
        elif (
            only_reshapes(traits_of(node))
            and (place := _place_before(source, tensor, axis)) is not None
        ):
            axis = place
        else:
            break
        tensor, direct = source, False
    return [], False


def _parts(node: gs.Node, axis: int) -> Iterator[Part]:
    start = 0
    for tensor in node.inputs:
        size = tensor.shape[axis] if tensor.shape else None
        if not isinstance(size, int):
            return
        yield Part(start, start + size, tensor)
        start += size


def _place_before(source: gs.Tensor, tensor: gs.Tensor, axis: int) -> int | None:
    """The axis of `source` that a Reshape kept: of the same size, with the same sizes before or after it."""
    if source.shape is None or tensor.shape is None:
        return None
    for own, other in ((tensor.shape[:axis], 1), (tensor.shape[axis + 1 :], -1)):
        for place, dim in enumerate(source.shape):
            beside = source.shape[:place] if other == 1 else source.shape[place + 1 :]
            if dim == tensor.shape[axis] and _product(beside) == _product(own):
                return place
    return None


def _product(shape: list[int | str]) -> tuple[int, tuple[str, ...]]:
    """The product of the numbers, and the names."""
    numbers = [dim for dim in shape if isinstance(dim, int)]
    names = tuple(sorted(str(dim) for dim in shape if not isinstance(dim, int)))
    return int(np.prod(numbers, dtype=np.int64)), names


def _by_parts(parts: list[Part]) -> Columns | None:
    """The classes by the operators: the widest part after a Softmax or Sigmoid, if there is a box, too. If a
    single other number has one, that is the objectness.
    """
    squashed = [part for part in parts if unsquashed(part.tensor)]
    beside = sum(part.width for part in parts) - sum(part.width for part in squashed)
    if not squashed or (beside < BOX and len(squashed) < 2):
        return None
    classes = max(reversed(squashed), key=lambda part: part.width)
    if sum(part.width for part in parts) - classes.width < BOX:
        return None
    single = [part.start for part in squashed if part.width == 1 and part is not classes]
    return Columns(classes.start, classes.stop, single[0] if len(single) == 1 else None)


def _with_logits(own: Columns, parts: list[Part]) -> Columns:
    """With the logits of the classes, if these are a separate part that nothing is multiplied by."""
    for part in parts:
        same = (part.start, part.stop) == (own.start, own.stop)
        squashed = unsquashed(part.tensor) if same and own.objectness is None else None
        if squashed is not None and squashed.logits.shape == part.tensor.shape:
            return Columns(own.start, own.stop, None, squashed.logits.name)
    return own


def _key_points(metadata: Mapping[str, str]) -> int:
    """How many numbers the key points of a detection take, 0 if it has none."""
    try:
        return int(np.prod(ast.literal_eval(metadata.get("kpt_shape", "0")), dtype=np.int64))
    except (ValueError, SyntaxError, TypeError):
        return 0
