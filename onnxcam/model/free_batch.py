"""Models that were exported for a fixed number of pictures, freed of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx_graphsurgeon as gs

from onnxcam.errors import ModelError
from onnxcam.graph.node_errors import reports_node
from onnxcam.model.model import Model
from onnxcam.passes.canonicalize import canonicalize

BATCH = "batch"


@reports_node
def free_batch(model: Model, image: str) -> Model | None:
    """The model with a batch that is free, None where that cannot be.

    The target of a Reshape that keeps the batch gets 0 in front, another one -1: right wherever the batch
    stays the outermost axis. A constant that is set beside the pictures (a class token) is repeated as often
    as there are pictures. Whether all this is so is for the caller to test, by running.
    """
    freed = model.copy()
    batch = freed.graph.tensors()[image].shape[0]
    for node in list(freed.graph.nodes):
        if node.op == "Reshape":
            _free_target(node, batch)
        elif node.op == "Concat" and node.attrs["axis"] % len(node.outputs[0].shape or "N"):
            _repeat_constants(freed.graph, node, batch)
    tensors = freed.graph.tensors()
    tensors[image].shape = [BATCH, *tensors[image].shape[1:]]
    for tensor in tensors.values():
        if isinstance(tensor, gs.Variable) and tensor.name != image:
            tensor.shape = None
    try:
        graph = canonicalize(freed.graph)
    except (ModelError, ValueError):
        return None
    free = all(each.shape and not isinstance(each.shape[0], int) for each in graph.outputs)
    return replace(freed, graph=graph) if free else None


def _free_target(node: gs.Node, batch: int) -> None:
    target, given, shape = node.inputs[1], node.inputs[0].shape, node.outputs[0].shape
    known = shape is not None and all(isinstance(dim, int) for dim in shape)
    if isinstance(target, gs.Constant) and known and shape:
        kept = given and given[0] == shape[0] == batch and not node.attrs.get("allowzero")
        name = f"{node.outputs[0].name}/free_shape"
        node.inputs[1] = gs.Constant(name, np.array([0 if kept else -1, *shape[1:]], np.int64))


def _repeat_constants(graph: gs.Graph, node: gs.Node, batch: int) -> None:
    """Constants with one entry for each picture, all alike, are made as many as the other operands are."""
    beside = next((each for each in node.inputs if isinstance(each, gs.Variable)), None)
    for slot, each in enumerate(node.inputs):
        if beside is None or not isinstance(each, gs.Constant) or each.shape[0] != batch:
            continue
        if (each.values == each.values[:1]).all():
            node.inputs[slot] = _repeated(graph, node, slot, beside)


def _repeated(graph: gs.Graph, node: gs.Node, slot: int, beside: gs.Variable) -> gs.Variable:
    one, name = node.inputs[slot].values[:1], f"{node.outputs[0].name}/{slot}"
    shape, size, target, found = (
        gs.Variable(f"{name}/{each}") for each in ("shape", "batch", "target", "repeated")
    )
    first = gs.Constant(f"{name}/first", np.zeros(1, np.int64))
    rest = gs.Constant(f"{name}/rest", np.ones(one.ndim - 1, np.int64))
    before = [
        gs.Node("Shape", shape.name, {}, [beside], [shape]),
        gs.Node("Gather", size.name, {"axis": 0}, [shape, first], [size]),
        gs.Node("Concat", target.name, {"axis": 0}, [size, rest], [target]),
        gs.Node("Expand", found.name, {}, [gs.Constant(f"{name}/one", one), target], [found]),
    ]
    place = next(i for i, each in enumerate(graph.nodes) if each is node)
    graph.nodes[place:place] = before
    return found
