"""Models that were exported for a fixed number of pictures, freed of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx_graphsurgeon as gs

from onnxcam.errors import ModelError
from onnxcam.graph.clean import clean
from onnxcam.graph.model import Model

BATCH = "batch"


def free_batch(model: Model, image: str) -> Model | None:
    """The model with a batch that is free, None where that cannot be.

    Reshape targets with the batch baked in get -1 in front: right wherever the batch stays the
    outermost axis. Whether it does is for the caller to test, by running.
    """
    freed = model.copy()
    for node in freed.graph.nodes:
        if node.op == "Reshape":
            _free_target(node)
    tensors = freed.graph.tensors()
    tensors[image].shape = [BATCH, *tensors[image].shape[1:]]
    for tensor in tensors.values():
        if isinstance(tensor, gs.Variable) and tensor.name != image:
            tensor.shape = None
    try:
        graph = clean(freed.graph)
    except (ModelError, ValueError):
        return None
    free = all(each.shape and not isinstance(each.shape[0], int) for each in graph.outputs)
    return replace(freed, graph=graph) if free else None


def _free_target(node: gs.Node) -> None:
    target, shape = node.inputs[1], node.outputs[0].shape
    known = shape is not None and all(isinstance(dim, int) for dim in shape)
    if isinstance(target, gs.Constant) and known and shape:
        name = f"{node.outputs[0].name}/free_shape"
        node.inputs[1] = gs.Constant(name, np.array([-1, *shape[1:]], np.int64))
