"""Move what does not depend on the image into a second model, which needs no forward pass."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import onnx_graphsurgeon as gs

from onnxcam.dense import WHERE
from onnxcam.model.model import Model
from onnxcam.specs import SAMPLE_INPUT, SEED

MAX_BACKWARD_BYTES = 1 << 30  # bytes of weights in the second model


def split_constant_outputs(model: Model, outputs: Sequence[str]) -> Model | None:
    """Move outputs of a model, in place, into a second model without the image, whose inputs are SEED, WHERE
    and those of a sampler. Returns None and changes nothing if they also depend on the image's size, if several
    images are run at a time, or if the weights of the second model are too large for one file.
    """
    backward = replace(model, graph=model.graph.copy())
    prune_outputs(backward, outputs)
    backward.graph.cleanup(remove_unused_graph_inputs=True)
    batches = {tensor.name: tensor.shape[0] for tensor in backward.graph.inputs}
    allowed = all(name in (SEED, WHERE) or name.startswith(SAMPLE_INPUT) for name in batches)
    batch = batches.get(SEED)
    if not allowed or batch is None or (isinstance(batch, int) and batch > 1):
        return None
    if weight_bytes(backward) > MAX_BACKWARD_BYTES:
        return None
    names = [tensor.name for tensor in model.graph.outputs]
    prune_outputs(model, [name for name in names if name not in outputs])
    model.graph.inputs = [
        tensor for tensor in model.graph.inputs if tensor.name not in batches or tensor.outputs
    ]
    return backward


def weight_bytes(model: Model) -> int:
    """The size of all constants of a model."""
    tensors = model.graph.tensors().values()
    return sum(
        math.prod(tensor.shape) * np.dtype(tensor.dtype).itemsize
        for tensor in tensors
        if isinstance(tensor, gs.Constant)
    )


def prune_outputs(model: Model, outputs: Sequence[str]) -> None:
    """Remove all outputs of a model but these, and what only the removed ones need, in place."""
    tensors = {tensor.name: tensor for tensor in model.graph.outputs}
    model.graph.outputs = [tensors[name] for name in dict.fromkeys(outputs)]
    model.graph.cleanup(remove_unused_graph_inputs=False)
