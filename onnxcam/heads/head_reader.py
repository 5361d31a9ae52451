"""Read the outputs of a model as scores: which axes hold the batch, the classes, pixels, boxes, or steps."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property

import onnx_graphsurgeon as gs

from onnxcam.arrays import Dim, Shape
from onnxcam.errors import ModelError
from onnxcam.graph.reachability import is_float
from onnxcam.heads.anchor_columns import anchor_columns
from onnxcam.heads.class_axis import ClassAxisFinder
from onnxcam.heads.detection_columns import class_columns
from onnxcam.heads.head import Head
from onnxcam.heads.mixed_probabilities import mixed_logits
from onnxcam.heads.output_activation import find_output_activation
from onnxcam.heads.output_tensors import before_rounding
from onnxcam.model.channel_axis import image_layout
from onnxcam.model.model import Model
from onnxcam.spatial.axes import BATCH, Axes, kinds
from onnxcam.spatial.axis_flow import AxisFlow


class HeadReader:
    """Reads the outputs of a model; `labels` is the number of classes that its metadata names, and `class_axis`
    the axis of the classes if it is known.
    """

    def __init__(
        self, model: Model, labels: int | None = None, class_axis: int | None = None
    ) -> None:
        self.model, self.labels, self.class_axis = model, labels, class_axis
        shaped = [tensor for tensor in model.graph.inputs if tensor.shape]
        images = [
            tensor
            for tensor in shaped
            if len(tensor.shape) == len("NCHW") and sum(dim != 1 for dim in tensor.shape[1:]) > 1
        ]
        self.image = images[0] if images else None
        self.batch: Dim = next((tensor.shape[0] for tensor in images or shaped), None)
        self.class_axes = ClassAxisFinder(model, self.batch, labels)

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
        head, activation = self._read_as(output, floats), find_output_activation(floats)
        if head is None or activation is None:
            return head
        if head.class_columns and head.class_columns.objectness is not None:
            return head
        logits = self._read_as(output, before_rounding(activation.logits))
        if logits is None or (logits.class_count, not logits.other_axes) != (
            head.class_count,
            not head.other_axes,
        ):
            return head
        return replace(
            logits,
            probabilities=activation.probabilities,
            output_activation=activation.operator,
            is_map=head.is_map,
            inner_logits=(),
        )

    def _read_as(self, output: gs.Tensor, logits: gs.Tensor) -> Head | None:
        """The output read as these logits, without looking for an output activation."""
        if logits.shape is None:
            return None
        shape, axes = tuple(logits.shape), self.flow.axes_of(logits) if self.flow else None
        batch = self._batch_axis(shape, axes)
        if batch is None and self.batch != 1:
            return None
        long_axes = [axis for axis, dim in enumerate(shape) if axis != batch and dim != 1]
        class_axis, is_guess = self._named_axis(shape), False
        if class_axis is None:
            class_axis, is_guess = self.class_axes.find(logits, axes, long_axes)
        if class_axis is not None and not isinstance(shape[class_axis], int):
            return None
        other_axes = tuple(axis for axis in long_axes if axis != class_axis)
        columns = None
        if class_axis is not None and other_axes:
            columns = class_columns(logits, class_axis, self.labels, self.model.metadata)
            if columns is None and batch == 0:
                columns = anchor_columns(self.model, logits, class_axis, self.labels)
        return Head(
            output=output,
            probabilities=logits,
            logits=logits,
            output_activation=None,
            batch_axis=batch,
            class_axis=class_axis,
            other_axes=other_axes,
            class_columns=columns,
            is_map=len(other_axes) == len("HW") and columns is None,
            inner_logits=() if columns else tuple(mixed_logits(logits)),
            is_guess=is_guess,
            axes=axes,
        )

    def _named_axis(self, shape: Shape) -> int | None:
        """The class axis that the user named; negative numbers count from the last one."""
        axis = self.class_axis
        if axis is None:
            return None
        if not -len(shape) <= axis < len(shape):
            raise ModelError(
                f"{self.model.name}: --head classes={axis}: the scores {list(shape)} have no such axis"
            )
        return axis % len(shape)

    def _batch_axis(self, shape: Shape, axes: Axes | None) -> int | None:
        """The axis of the images."""
        with_batch_size = [axis for axis, dim in enumerate(shape) if dim == self.batch]
        if isinstance(self.batch, str) and len(with_batch_size) == 1:
            return with_batch_size[0]
        if axes is not None:
            with_batch = [axis for axis, factors in enumerate(axes) if BATCH in kinds(factors)]
            if len(with_batch) == 1 and kinds(axes[with_batch[0]]) == {BATCH}:
                return with_batch[0]
            if with_batch:
                return None
        if shape and (shape[0] in (self.batch, 1) or not isinstance(shape[0], int)):
            return 0
        return with_batch_size[0] if len(with_batch_size) == 1 else None
