"""Which axis of an output holds the classes.

Evidence, the strongest first: the number of labels in the model's metadata, the axis of a Softmax, the axes
followed from the image (`AxisFlow`), the boxes of other outputs, and the weights. Sizes alone decide only if
none of these does.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import onnx_graphsurgeon as gs

from onnxcam.arrays import Dim, Shape
from onnxcam.graph.operators import only_reshapes, traits_of
from onnxcam.graph.reachability import producer
from onnxcam.heads.detection_columns import BOX, columns_by_labels
from onnxcam.model.model import Model
from onnxcam.spatial.axes import BATCH, CHANNELS, Axes, Axis, Factor, holds_cells, kinds

LAST_BY_DEFAULT = 13  # from this opset on, Softmax uses the last axis unless it names one
WEIGHTS = {"MatMul", "Gemm", "Conv"}


class ClassAxisFinder:
    """Finds the class axis of the outputs of a model. `batch` is the size of its batch, and `labels` the number
    of classes that its metadata names.
    """

    def __init__(self, model: Model, batch: Dim, labels: int | None) -> None:
        self.model, self.batch, self.labels = model, batch, labels

    def find(
        self, logits: gs.Tensor, axes: Axes | None, long_axes: list[int]
    ) -> tuple[int | None, bool]:
        """The class axis among the axes longer than 1, None for one class; and whether it is a guess.

        `axes` is what the axes hold as far as they could be followed from the image.
        """
        shape = tuple(logits.shape)
        if len(long_axes) == 1:
            return (None if self._holds_boxes(shape, axes, long_axes[0]) else long_axes[0]), False
        if not long_axes or (axes and all(_is_spatial(axes[axis]) for axis in long_axes)):
            return None, False
        evidence = (
            [axis for axis in long_axes if self._fits_labels(shape[axis])],
            _softmax_axes(logits, long_axes, self.model.opset),
            [axis for axis in long_axes if axes and not _is_spatial(axes[axis])],
            _choice_axes(logits, long_axes),
            [axis for axis in long_axes if shape[axis] not in self._box_counts(shape)],
            self._newest_axes(axes, long_axes),
            _weight_axes(logits, long_axes),
        )
        for candidates in evidence:
            if len(candidates) == 1:
                return candidates[0], False
        unstacked = [axis for axis in long_axes if not (axes and self._is_stacked(axes[axis]))]
        return shortest_axis(shape, unstacked or long_axes), True

    def _is_stacked(self, axis: Axis) -> bool:
        """Whether a Concat along an axis of size 1 made the axis: of ensemble members, crops, or branches."""
        origins = [factor.origin for factor in axis if isinstance(factor, Factor)]
        return bool(origins) and all(origin in self._stack_origins for origin in origins)

    @cached_property
    def _stack_origins(self) -> set[str]:
        """The names in `AxisFlow` of the axes that a Concat along an axis of size 1 made."""
        return {
            f"{node.outputs[0].name}.{axis}"
            for node in self.model.graph.nodes
            if node.op == "Concat"
            for axis in [int(node.attrs["axis"]) % len(node.outputs[0].shape or [1])]
            if all(tensor.shape and tensor.shape[axis] == 1 for tensor in node.inputs)
        }

    def _holds_boxes(self, shape: Shape, axes: Axes | None, axis: int) -> bool:
        """Whether the only long axis is one of pixels or boxes."""
        axis_kinds = kinds(axes[axis]) - {BATCH} if axes else set()
        if axis_kinds == {CHANNELS}:
            return False
        holds_anchors = CHANNELS in axis_kinds and not (shape[-1] == 1 and axis == len(shape) - 2)
        is_box_count = shape[axis] in self._box_counts(shape, last=True)
        return is_box_count or bool(axis_kinds and not holds_anchors)

    def _box_counts(self, shape: Shape, *, last: bool = False) -> set[Dim]:
        """How many boxes other outputs have, of shape (N, boxes, 4) or, unless `last`, (N, 4, boxes)."""
        sizes: set[Dim] = set()
        for output in self.model.graph.outputs:
            first, *rest = output.shape or [1]
            is_batch = first in (self.batch, 1) or isinstance(first, str)
            long_dims = [dim for dim in (rest if is_batch else output.shape) if dim != 1]
            if len(long_dims) == 2 and BOX in long_dims[last:] and tuple(output.shape) != shape:
                sizes |= {long_dims[0] if long_dims[1] == BOX else long_dims[1]}
        return sizes

    def _fits_labels(self, dim: Dim) -> bool:
        """Whether an axis of this size holds one number per label, or the numbers of detections of them."""
        if not isinstance(dim, int) or self.labels is None:
            return False
        columns = columns_by_labels(dim, self.labels, self.model.metadata)
        return dim in (self.labels, self.labels + 1) or columns is not None

    def _newest_axes(self, axes: Axes | None, long_axes: list[int]) -> list[int]:
        """The axes that the latest weights wrote; of two parts of one axis, the inner one."""
        if axes is None or any(self._is_stacked(axes[axis]) for axis in long_axes):
            return []  # weights may have written the classes, or these may have been stacked
        order = {
            tensor.name: index
            for index, node in enumerate(self.model.graph.nodes)
            for tensor in node.outputs
        }
        ages = {axis: _age(axes[axis], order) for axis in long_axes if not _is_spatial(axes[axis])}
        newest = max(ages.values(), default=None)
        return [axis for axis, age in ages.items() if age == newest]


def _age(axis: Axis, order: dict[str, int]) -> tuple[int, bool, int]:
    """When the latest factor of an axis was written, with its stride: an inner one counts as later."""
    ages = []
    for factor in axis:
        if isinstance(factor, Factor):
            name, _, suffix = factor.origin.rpartition(".")
            index = order.get(factor.origin, order.get(name, -1))
            ages.append((index, suffix != "rows", -factor.stride))
    return max(ages, default=(-1, False, 0))


def _is_spatial(axis: Axis) -> bool:
    """Whether the axis runs over positions of the image, or over tokens."""
    return holds_cells(axis) or bool(kinds(axis) - {CHANNELS, BATCH})


def _softmax_axes(tensor: gs.Tensor, long_axes: list[int], opset: int) -> list[int]:
    """The axes along which the Softmax nodes that read or write these numbers normalize."""
    rank, softmax_axes = len(tensor.shape), set()
    for node in (*tensor.outputs, *tensor.inputs):
        traits = traits_of(node)
        is_softmax = traits.output_activation and traits.normalizes == "axis"
        if is_softmax and ("axis" in node.attrs or opset >= LAST_BY_DEFAULT):
            softmax_axes.add(int(node.attrs.get("axis", -1)) % rank)
    return [axis for axis in long_axes if axis in softmax_axes]


def _choice_axes(tensor: gs.Tensor, long_axes: list[int]) -> list[int]:
    """The axis along which an ArgMax chooses the best class."""
    readers = (node for node in tensor.outputs if node.op == "ArgMax")
    chosen = {int(node.attrs.get("axis", 0)) % len(tensor.shape) for node in readers}
    return [axis for axis in long_axes if axis in chosen]


def _weight_axes(tensor: gs.Tensor, long_axes: list[int]) -> list[int]:
    """The axis that the last weights wrote, if all operators after them keep the axes."""
    # the axis of the current tensor, per axis of the first one
    axis_of = list(range(len(tensor.shape)))
    while (node := producer(tensor)) is not None:
        varying = [operand for operand in node.inputs if not isinstance(operand, gs.Constant)]
        if len(varying) != 1:
            return []
        if node.op in WEIGHTS and node.inputs[0] is varying[0]:
            written = len(tensor.shape) - 1 if node.op == "MatMul" else 1
            return [axis for axis in long_axes if axis_of[axis] == written]
        if node.op == "Transpose":
            perm = node.attrs.get("perm", range(len(axis_of))[::-1])
            axis_of = [int(perm[axis]) for axis in axis_of]
        elif _may_move_axes(node, varying[0]):
            return []
        tensor = varying[0]
    return []


def _may_move_axes(node: gs.Node, source: gs.Tensor) -> bool:
    if source.shape is None:
        return True
    shapes = list(source.shape), list(node.outputs[0].shape or ())
    if only_reshapes(traits_of(node)):
        return shapes[0] != shapes[1]
    return len(shapes[0]) != len(shapes[1])


def shortest_axis(shape: Sequence[Dim], axes: Sequence[int]) -> int:
    """The shortest axis, since there are fewer classes than pixels or boxes; one of unknown size is long."""
    sizes = [float(dim) if isinstance(dim := shape[axis], int) else np.inf for axis in axes]
    return axes[sizes.index(min(sizes))]
