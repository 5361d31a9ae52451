"""What the axes of an output hold: the batch, the classes, and pixels, boxes, or steps.

The names of its sizes tell it, the axes followed from the image (`tokens.Flow`), the number of labels in the
model's metadata, and other outputs; the sizes alone decide only if all these say nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import onnx_graphsurgeon as gs

from onnxcam.arrays import Dim, Shape
from onnxcam.graph.operators import only_reshapes, traits_of
from onnxcam.graph.reachability import is_float, producer
from onnxcam.heads.detection_columns import BOX, Columns, by_labels, columns
from onnxcam.heads.output_activation import mixed_logits, unsquashed
from onnxcam.model.channel_axis import image_layout
from onnxcam.model.model import Model
from onnxcam.spatial.axes import BATCH, CHANNELS, Axes, Axis, Factor, holds_cells, kinds
from onnxcam.spatial.axis_flow import AxisFlow

LAST_BY_DEFAULT = 13  # from this opset on, these use the last axis unless they name one
WEIGHTS = {"MatMul", "Gemm", "Conv"}


@dataclass(frozen=True)
class Head:
    """An output read as scores.

    `output` is the model's, or the tensor that it is made from; `probabilities` are the floats in it, and
    `logits` the tensor before their last Softmax or Sigmoid (`squashing`). Of the logits, `batch` is the axis
    of the images (None if a batch of one was squeezed away), `classes` the class axis (None for one class),
    and `others` are the axes of pixels (`is_map`), boxes, or steps. `inner` names logits that the scores are
    mixed from as probabilities. `guessed` says that only the sizes told which axis holds the classes.
    """

    output: gs.Tensor
    probabilities: gs.Tensor
    logits: gs.Tensor
    squashing: str | None
    batch: int | None
    classes: int | None
    others: tuple[int, ...]
    columns: Columns | None
    is_map: bool
    inner: tuple[str, ...]
    guessed: bool

    @property
    def count(self) -> int:
        """How many classes."""
        if self.columns is not None:
            return self.columns.stop - self.columns.start
        return 1 if self.classes is None else int(self.logits.shape[self.classes])

    @property
    def is_plain(self) -> bool:
        """Whether it is (N, classes), apart from axes of size 1."""
        return self.batch == 0 and not self.others and len(self.logits.shape) > 1


class Reader:
    """Reads the outputs of a model; `labels` is the number of classes that its metadata names."""

    def __init__(self, model: Model, labels: int | None = None) -> None:
        self.model, self.labels = model, labels
        shaped = [tensor for tensor in model.graph.inputs if tensor.shape]
        images = [
            tensor
            for tensor in shaped
            if len(tensor.shape) == len("NCHW") and sum(dim != 1 for dim in tensor.shape[1:]) > 1
        ]
        self.image = images[0] if images else None
        self.batch: Dim = next((tensor.shape[0] for tensor in images or shaped), None)

    @cached_property
    def flow(self) -> AxisFlow | None:
        """What the axes of all tensors hold; None without an image."""
        if self.image is None:
            return None
        graph, name = self.model.graph, self.image.name
        return AxisFlow(graph, name, image_layout(graph, name))

    def read(self, output: gs.Tensor) -> Head | None:
        """A tensor as scores; None if it holds none."""
        floats = before_rounding(output)
        if not is_float(floats) or floats.shape is None:
            return None
        head, squashed = self._head(output, floats), unsquashed(floats)
        if (
            head is None
            or squashed is None
            or (head.columns and head.columns.objectness is not None)
        ):
            return head
        logits = self._head(output, before_rounding(squashed.logits))
        if logits is None or (logits.count, not logits.others) != (head.count, not head.others):
            return head
        return replace(
            logits,
            probabilities=squashed.probabilities,
            squashing=squashed.operator,
            is_map=head.is_map,
            inner=(),
        )

    def _head(self, output: gs.Tensor, logits: gs.Tensor) -> Head | None:
        if logits.shape is None:
            return None
        shape, axes = tuple(logits.shape), self.flow.axes_of(logits) if self.flow else None
        batch = self._batch(shape, axes)
        if batch is None and self.batch != 1:
            return None
        wide = [axis for axis, dim in enumerate(shape) if axis != batch and dim != 1]
        classes, guessed = self._classes(logits, axes, wide)
        if classes is not None and not isinstance(shape[classes], int):
            return None
        others = tuple(axis for axis in wide if axis != classes)
        parts = None
        if classes is not None and others:
            parts = columns(logits, classes, self.labels, self.model.metadata)
        inner = () if parts else tuple(mixed_logits(logits))
        is_map = len(others) == len("HW") and parts is None
        return Head(
            output, logits, logits, None, batch, classes, others, parts, is_map, inner, guessed
        )

    def _batch(self, shape: Shape, axes: Axes | None) -> int | None:
        """The axis of the images."""
        named = [axis for axis, dim in enumerate(shape) if dim == self.batch]
        if isinstance(self.batch, str) and len(named) == 1:
            return named[0]
        if axes is not None:
            held = [axis for axis, factors in enumerate(axes) if BATCH in kinds(factors)]
            if len(held) == 1 and kinds(axes[held[0]]) == {BATCH}:
                return held[0]
            if held:
                return None
        if shape and (shape[0] in (self.batch, 1) or not isinstance(shape[0], int)):
            return 0
        return named[0] if len(named) == 1 else None

    def _classes(
        self, logits: gs.Tensor, axes: Axes | None, wide: list[int]
    ) -> tuple[int | None, bool]:
        """The class axis, None for one class; and whether it was guessed."""
        shape = tuple(logits.shape)
        if len(wide) == 1:
            return (None if self._holds_boxes(shape, axes, wide[0]) else wide[0]), False
        if not wide or (axes and all(_is_spatial(axes[axis]) for axis in wide)):
            return None, False
        ways = (
            [axis for axis in wide if self._fits_labels(shape[axis])],
            _squashed_along(logits, wide, self.model.opset),
            [axis for axis in wide if axes and not _is_spatial(axes[axis])],
            [axis for axis in wide if shape[axis] not in self._boxes(shape)],
            self._written_last(axes, wide),
            _weighted_along(logits, wide),
        )
        for fitting in ways:
            if len(fitting) == 1:
                return fitting[0], False
        single = [axis for axis in wide if not (axes and self._is_stacked(axes[axis]))]
        return class_axis(shape, single or wide), True

    def _is_stacked(self, axis: Axis) -> bool:
        """Whether a Concat of single ones made the axis: of the members of an ensemble, of crops, branches."""
        origins = [factor.origin for factor in axis if isinstance(factor, Factor)]
        return bool(origins) and all(origin in self._stacks for origin in origins)

    @cached_property
    def _stacks(self) -> set[str]:
        """What `Flow` calls the axes that a Concat of single ones made."""
        return {
            f"{node.outputs[0].name}.{axis}"
            for node in self.model.graph.nodes
            if node.op == "Concat"
            for axis in [int(node.attrs["axis"]) % len(node.outputs[0].shape or [1])]
            if all(tensor.shape and tensor.shape[axis] == 1 for tensor in node.inputs)
        }

    def _holds_boxes(self, shape: Shape, axes: Axes | None, axis: int) -> bool:
        """Whether the only long axis is one of pixels or boxes."""
        held = kinds(axes[axis]) - {BATCH} if axes else set()
        if held == {CHANNELS}:
            return False
        anchors = CHANNELS in held and not (shape[-1] == 1 and axis == len(shape) - 2)
        return shape[axis] in self._boxes(shape, last=True) or bool(held and not anchors)

    def _boxes(self, shape: Shape, *, last: bool = False) -> set[Dim]:
        """How many boxes other outputs have, of shape (N, boxes, 4) or (N, 4, boxes)."""
        sizes: set[Dim] = set()
        for output in self.model.graph.outputs:
            first, *rest = output.shape or [1]
            beside = rest if first in (self.batch, 1) or isinstance(first, str) else output.shape
            long = [dim for dim in beside if dim != 1]
            if len(long) == 2 and BOX in long[last:] and tuple(output.shape) != shape:
                sizes |= {long[0] if long[1] == BOX else long[1]}
        return sizes

    def _fits_labels(self, dim: Dim) -> bool:
        known = isinstance(dim, int) and self.labels is not None
        return known and (
            dim in (self.labels, (self.labels or 0) + 1)
            or by_labels(int(dim or 0), int(self.labels or 0), self.model.metadata) is not None
        )

    def _written_last(self, axes: Axes | None, wide: list[int]) -> list[int]:
        """The axis that weights wrote last; of two parts of one axis, the inner one."""
        if axes is None or any(self._is_stacked(axes[axis]) for axis in wide):
            return []  # weights may have written the classes, or these may have been stacked
        order = {
            tensor.name: i
            for i, node in enumerate(self.model.graph.nodes)
            for tensor in node.outputs
        }
        ages = {axis: _age(axes[axis], order) for axis in wide if not _is_spatial(axes[axis])}
        newest = max(ages.values(), default=None)
        return [axis for axis, age in ages.items() if age == newest]


def _age(axis: Axis, order: dict[str, int]) -> tuple[int, bool, int]:
    """When the latest factor of an axis was written, with its stride: an inner one counts as later."""
    ages = []
    for factor in axis:
        if isinstance(factor, Factor):
            name, _, word = factor.origin.rpartition(".")
            at = order.get(factor.origin, order.get(name, -1))
            ages.append((at, word != "rows", -factor.stride))
    return max(ages, default=(-1, False, 0))


def _is_spatial(axis: Axis) -> bool:
    """Whether the axis runs over positions of the image, or over tokens."""
    return holds_cells(axis) or bool(kinds(axis) - {CHANNELS, BATCH})


def _squashed_along(tensor: gs.Tensor, wide: list[int], opset: int) -> list[int]:
    """The axis along which a Softmax that reads or writes these numbers sums."""
    rank, along = len(tensor.shape), set()
    for node in (*tensor.outputs, *tensor.inputs):
        traits = traits_of(node)
        sums = traits.output_activation and traits.normalizes == "axis"
        if sums and ("axis" in node.attrs or opset >= LAST_BY_DEFAULT):
            along.add(int(node.attrs.get("axis", -1)) % rank)
    return [axis for axis in wide if axis in along]


def _weighted_along(tensor: gs.Tensor, wide: list[int]) -> list[int]:
    """The axis that the last weights wrote, if all operators after them keep the axes."""
    axis_of = list(range(len(tensor.shape)))
    while (node := producer(tensor)) is not None:
        varying = [operand for operand in node.inputs if not isinstance(operand, gs.Constant)]
        if len(varying) != 1:
            return []
        if node.op in WEIGHTS and node.inputs[0] is varying[0]:
            written = len(tensor.shape) - 1 if node.op == "MatMul" else 1
            return [axis for axis in wide if axis_of[axis] == written]
        if node.op == "Transpose":
            perm = node.attrs.get("perm", range(len(axis_of))[::-1])
            axis_of = [int(perm[axis]) for axis in axis_of]
        elif _moves(node, varying[0]):
            return []
        tensor = varying[0]
    return []


def _moves(node: gs.Node, source: gs.Tensor) -> bool:
    """Whether an operator may move axes."""
    if source.shape is None:
        return True
    shapes = list(source.shape), list(node.outputs[0].shape or ())
    if only_reshapes(traits_of(node)):
        return shapes[0] != shapes[1]
    return len(shapes[0]) != len(shapes[1])


def class_axis(shape: Sequence[Dim], wide: Sequence[int]) -> int:
    """The shortest of the axes, since classes are fewer than pixels or boxes; a free one counts as long."""
    sizes = [float(dim) if isinstance(dim := shape[axis], int) else np.inf for axis in wide]
    return wide[sizes.index(min(sizes))]


def unwrapped(output: gs.Tensor) -> list[gs.Tensor]:
    """The tensors in an output that is a sequence, a map, or optional; the output itself if it is a tensor."""
    node = producer(output)
    if node is None or not traits_of(node).container:
        return [output]
    inputs = node.inputs if node.op == "SequenceConstruct" else node.inputs[:1]
    return [tensor for part in inputs for tensor in unwrapped(part)]


def before_rounding(tensor: gs.Tensor) -> gs.Tensor:
    """The floats that quantized numbers were last rounded from; the tensor itself if it was not rounded."""
    current = tensor
    while (node := producer(current)) is not None and _rounds_or_reshapes(node):
        if not _alike(node.inputs[0], tensor):
            break
        current = node.inputs[0]
        if node.op == "QuantizeLinear":
            tensor = current
    return tensor


def _rounds_or_reshapes(node: gs.Node) -> bool:
    traits = traits_of(node)
    return traits.quantizes or only_reshapes(traits)


def _alike(first: gs.Tensor, second: gs.Tensor) -> bool:
    """Whether two tensors have the same axes longer than 1, in any order."""
    if first.shape is None or second.shape is None:
        return False
    sizes = [
        sorted(str(dim) for dim in tensor.shape if isinstance(dim, int) and dim != 1)
        for tensor in (first, second)
    ]
    return sizes[0] == sizes[1]
