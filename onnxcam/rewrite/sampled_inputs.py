"""Add the offsets of samples inside the model, to the image or to the activation at which the model is cut, so
that they can stay on the device for the next images.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import onnx_graphsurgeon as gs

from onnxcam.arrays import FLOAT32, cast_saturating, is_integer
from onnxcam.graph import anp
from onnxcam.graph.reachability import captured_tensors
from onnxcam.graph.tracing import Builder, Value
from onnxcam.rewrite.loss_scale import accumulation_dtype
from onnxcam.specs import OFFSET, SCALE, sample_input

BASES, OFFSETS, SCALES = "onnxcam/bases", "onnxcam/offsets", "onnxcam/scales"
"""The numbers of images, offsets and scales: one for all samples, or one per sample."""
ROUND_OPSET = 11  # the first opset with Round, which images of integers need


def add_offset(graph: gs.Graph, name: str) -> None:
    """Replace the input `name` by `input + SCALE * OFFSET` for all its readers, in place.

    Adds two float32 inputs: OFFSET, in the input's shape or broadcast to it, and SCALE, one number per sample.
    The sum is computed in float32, or in float64 for float64 inputs; for integers it is rounded and saturated,
    which needs opset 11.
    """
    build, count = Builder(graph), len(graph.nodes)
    x = build.value(name)
    readers, shape = list(x.tensor.outputs), list(x.shape)
    offset = build.input(OFFSET, FLOAT32, (OFFSETS, *[None] * len(shape[1:])))
    scale = anp.reshape(build.input(SCALE, FLOAT32, (SCALES,)), (-1, *[1] * len(shape[1:])))
    x.tensor.shape = [BASES, *shape[1:]]
    wide = FLOAT32 if is_integer(x.dtype) else accumulation_dtype(x.dtype)
    total = x.astype(wide) + (offset * scale).astype(wide)
    changed = cast_saturating(total, x.dtype).tensor
    changed.shape = shape
    for node in readers:
        node.inputs = [changed if tensor is x.tensor else tensor for tensor in node.inputs]
    graph.nodes[:] = [*graph.nodes[count:], *graph.nodes[:count]]


def add_sample_input(build: Builder, name: str) -> Value:
    """The input for what a sampler feeds under this name: four axes of any size, in float32."""
    tensor = sample_input(name)
    if tensor in build.tensors:
        return build.value(tensor)
    return build.input(tensor, FLOAT32, (None, None, None, None))


def cut_at(graph: gs.Graph, name: str) -> None:
    """Make a tensor an input of the graph, in place; what only served to compute it is removed later."""
    tensor = graph.tensors()[name]
    tensor.inputs.clear()
    graph.inputs.append(tensor)


def tensors_beside(graph: gs.Graph, layer: str, image: str) -> tuple[str, ...]:
    """What the nodes after a layer read that does not depend on it: the last tensors that have a row for every
    image. What is made of those that have none, such as shapes, is computed from tensors before them.
    """
    changed, read = {layer}, dict[str, gs.Tensor]()
    for node in graph.nodes:
        inputs = [*node.inputs, *captured_tensors(node)]
        if any(tensor.name in changed for tensor in inputs):
            changed.update(tensor.name for tensor in node.outputs)
            read |= {tensor.name: tensor for tensor in node.inputs}
    batch = graph.tensors()[image].shape[0] if image in graph.tensors() else None
    unchanged = [tensor for name, tensor in read.items() if name not in changed]
    return tuple(dict.fromkeys(_last_with_rows(unchanged, batch)))


def _last_with_rows(tensors: Iterable[gs.Tensor], batch: object) -> Iterator[str]:
    """The names of the tensors with a row for every image from which the others are computed."""
    waiting, visited = [*tensors], set[str]()
    while waiting:
        tensor = waiting.pop()
        if tensor.name in visited or not tensor.inputs:
            continue
        visited.add(tensor.name)
        if _has_rows(tensor, batch):
            yield tensor.name
        else:
            waiting += [
                t for node in tensor.inputs for t in (*node.inputs, *captured_tensors(node))
            ]


def _has_rows(tensor: gs.Tensor, batch: object) -> bool:
    is_batched = bool(tensor.shape) and tensor.shape[0] == batch
    is_named = isinstance(batch, str) or batch == 1
    return (
        is_batched and is_named and isinstance(tensor.dtype, np.dtype) and tensor.dtype.kind == "f"
    )
