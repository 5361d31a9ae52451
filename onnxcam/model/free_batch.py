"""Give models that were exported for a fixed number of images a dynamic batch size."""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from onnxcam.errors import ModelError
from onnxcam.graph.dims import is_static
from onnxcam.graph.node_errors import reports_node
from onnxcam.model.image_shape import shape_images
from onnxcam.model.model import Model

BATCH = "batch"  # the name of the free size


@reports_node
def free_batch(model: Model, image: str) -> Model | None:
    """The model with a dynamic batch size at its input `image`; None if that is impossible.

    The target shape of a Reshape that keeps the batch gets a 0 in front, other targets a -1: right wherever
    the batch stays the outermost axis. A constant that is concatenated to the images (a class token) is
    repeated for each image. The caller has to verify these assumptions by running the model.
    """
    free = model.copy()
    batch = free.graph.tensors()[image].shape[0]
    for node in list(free.graph.nodes):
        if node.op == "Reshape":
            _free_target(node, batch)
        elif node.op == "Concat" and node.attrs["axis"] % len(node.outputs[0].shape or "N"):
            _repeat_constants(free.graph, node, batch)
    try:
        freed = shape_images(free, image, BATCH)
    except ModelError:
        return None
    is_free = all(
        output.shape and not isinstance(output.shape[0], int) for output in freed.graph.outputs
    )
    return freed if is_free else None


@reports_node
def repeat_rows(model: Model, image: str) -> Model:
    """The model with constants of one row that are concatenated to the images' features repeated for each
    image: the values of an input that were given once. For one image, nothing changes.
    """
    repeated = model.copy()
    for node in list(repeated.graph.nodes):
        if node.op == "Concat" and node.attrs["axis"] % len(node.outputs[0].shape or "N"):
            variable = next((t for t in node.inputs if isinstance(t, gs.Variable)), None)
            if variable is not None and variable.shape and not isinstance(variable.shape[0], int):
                _repeat_constants(repeated.graph, node, 1)
    if len(repeated.graph.nodes) == len(model.graph.nodes):
        return model
    try:
        return shape_images(repeated, image)
    except ModelError:
        return model


def _free_target(node: gs.Node, batch: int) -> None:
    """Free the batch in the target shape of a Reshape, in place."""
    target, shape, new_shape = node.inputs[1], node.inputs[0].shape, node.outputs[0].shape
    if isinstance(target, gs.Constant) and new_shape and is_static(new_shape):
        keeps_batch = (
            shape and shape[0] == new_shape[0] == batch and not node.attrs.get("allowzero")
        )
        sizes = np.array([0 if keeps_batch else -1, *new_shape[1:]], np.int64)
        node.inputs[1] = gs.Constant(f"{node.outputs[0].name}/free_shape", sizes)


def _repeat_constants(graph: gs.Graph, node: gs.Node, batch: int) -> None:
    """Repeat the constant operands of a Concat for each image, in place, if all their rows are equal."""
    variable = next((tensor for tensor in node.inputs if isinstance(tensor, gs.Variable)), None)
    for slot, tensor in enumerate(node.inputs):
        if variable is None or not isinstance(tensor, gs.Constant) or tensor.shape[0] != batch:
            continue
        if (tensor.values == tensor.values[:1]).all():
            node.inputs[slot] = _insert_repetition(graph, node, slot, variable)


def _insert_repetition(
    graph: gs.Graph, node: gs.Node, slot: int, variable: gs.Variable
) -> gs.Variable:
    """Insert nodes before `node` that repeat its constant in `slot` as often as `variable` has rows."""
    row, name = node.inputs[slot].values[:1], f"{node.outputs[0].name}/{slot}"
    shape, size, target, repeated = (
        gs.Variable(f"{name}/{suffix}") for suffix in ("shape", "batch", "target", "repeated")
    )
    first = gs.Constant(f"{name}/first", np.zeros(1, np.int64))
    rest = gs.Constant(f"{name}/rest", np.ones(row.ndim - 1, np.int64))
    nodes = [
        gs.Node("Shape", shape.name, {}, [variable], [shape]),
        gs.Node("Gather", size.name, {"axis": 0}, [shape, first], [size]),
        gs.Node("Concat", target.name, {"axis": 0}, [size, rest], [target]),
        gs.Node("Expand", repeated.name, {}, [gs.Constant(f"{name}/one", row), target], [repeated]),
    ]
    index = next(i for i, candidate in enumerate(graph.nodes) if candidate is node)
    graph.nodes[index:index] = nodes
    return repeated
