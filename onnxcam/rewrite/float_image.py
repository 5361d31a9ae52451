"""Take the integers of an image as floats, so that a gradient can reach them."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_graphsurgeon as gs

from onnxcam.arrays import FLOAT32, is_integer
from onnxcam.errors import ModelError
from onnxcam.graph import anp
from onnxcam.graph.constants import is_operator
from onnxcam.graph.operators import traits_of
from onnxcam.graph.tracing import Builder, Value
from onnxcam.model.model import Model
from onnxcam.specs import ImageInput

MOVES = ("identity", "view", "transpose", "slice", "blocks", "gather", "repeat")
"""What operators do that only move numbers, whatever their type is."""


def with_float_image(model: Model, image: ImageInput) -> Model:
    """A copy that takes the same numbers in float32 if the model takes integers; else the model itself.

    Operators that only move the numbers move floats. Where the numbers are dequantized, their scale and zero
    point are applied to floats, with the same result. ModelError if another operator than these and Cast reads
    the integers: floats may have another meaning there.
    """
    if not is_integer(image.dtype):
        return model
    copy = model.copy()
    tensor = copy.graph.tensors()[image.name]
    if (other := _read_as_floats(copy.graph, tensor)) is not None:
        raise ModelError(
            f"{model.name}: the image {image.name!r} holds integers, which {other.op} ({other.name}) reads, so "
            "it has no gradient; use a method at a layer (`onnxcam methods`)"
        )
    return copy


def image_dtype(model: Model, image: ImageInput) -> np.dtype[Any]:
    """The dtype in which the model, which may have been changed, takes its image."""
    dtype = model.graph.tensors()[image.name].dtype
    return image.dtype if isinstance(dtype, int) else np.dtype(dtype)


def _read_as_floats(graph: gs.Graph, tensor: gs.Tensor) -> gs.Node | None:
    """Let all that reads a tensor of integers read floats, in place. Returns an operator for which floats may
    have another meaning, if there is one.
    """
    tensor.dtype = FLOAT32
    others = (_read_float(graph, node, tensor) for node in list(tensor.outputs))
    return next((other for other in others if other is not None), None)


def _read_float(graph: gs.Graph, node: gs.Node, tensor: gs.Tensor) -> gs.Node | None:
    """The same for one operator that reads the tensor."""
    is_data = [source is tensor for source in node.inputs] == [True] + [False] * (
        len(node.inputs) - 1
    )
    if is_data and is_operator(node, "DequantizeLinear") and not node.attrs.get("block_size"):
        return _scale(graph, node)
    if is_data and not node.domain and traits_of(node).moves in MOVES:
        others = (_read_as_floats(graph, output) for output in node.outputs)
        return next((other for other in others if other is not None), None)
    return None if node.op == "Cast" or traits_of(node).reads_shape else node


def _scale(graph: gs.Graph, node: gs.Node) -> gs.Node | None:
    """Replace a DequantizeLinear of floats by (x - zero) scale, in place. Returns it if the rank is unknown."""
    x, scale, *zero = list(node.inputs)
    axis, output, count = node.attrs.get("axis", 1), node.outputs[0], len(graph.nodes)
    if x.shape is None:
        return node
    build = Builder(graph)

    def along(parameter: gs.Tensor) -> Value:
        """In float32, a number or one per slice along the axis."""
        value = build.value(parameter.name).astype(FLOAT32)
        if not value.shape:
            return value
        shape = [1] * len(x.shape)
        shape[axis] = -1
        return anp.reshape(value, shape)

    offsets = [along(parameter) for parameter in zero if not parameter.is_empty()]
    floats = build.value(x.name)
    centered = floats - offsets[0] if offsets else floats
    result = (centered * along(scale)).astype(output.dtype)
    node.inputs.clear()
    node.outputs.clear()
    last = result.tensor.inputs[0]
    last.name, last.outputs = output.name, [output]
    _move(graph, count, node)
    return None


def _move(graph: gs.Graph, count: int, node: gs.Node) -> None:
    """Put the nodes after the first `count` in the place of a node, in place."""
    before, new = graph.nodes[:count], graph.nodes[count:]
    place = next(number for number, other in enumerate(before) if other is node)
    graph.nodes[:] = [*before[:place], *new, *before[place + 1 :]]
