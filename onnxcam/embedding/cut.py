"""Samples of the values of a layer: the model after it is written once more, on all samples in one batch."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import onnx_graphsurgeon as gs

from onnxcam.arrays import FLOAT32
from onnxcam.embedding.collect import Finish
from onnxcam.embedding.draw import Drawing
from onnxcam.embedding.rounds import only_samples
from onnxcam.embedding.rows import flatten_rows, repeat_rows, rows_for_images, sampled_rows
from onnxcam.embedding.scope import Scope
from onnxcam.errors import ModelError
from onnxcam.graph import anp
from onnxcam.graph.tracing import Builder, Value
from onnxcam.methods import QUANTITIES
from onnxcam.methods.samplers.sampler import Samples
from onnxcam.rewrite.programs import CutModel, Subject
from onnxcam.specs import OFFSET, SCALE, SEED, Layer

MOST_BYTES = 1 << 30  # of the values of all samples of an image


def write_cut_samples(
    scope: Scope, subject: Subject, drawing: Drawing, layer: Layer, cut: CutModel
) -> tuple[Samples, dict[str, Finish]]:
    """The samples, and the quantities of them by name. ModelError if they do not fit into memory."""
    build, values = scope.body, scope.body.value(layer.name)
    samples = drawing.draw(build.value(subject.image), values, layer)
    if samples is None or samples.offsets is None:
        raise ModelError(f"{drawing.formula.method.name} has no samples of a layer")
    _require_memory(layer, values, samples.count)
    rounds = only_samples(samples.count)
    offsets = rows_for_images(scope, sampled_rows(scope, rounds, samples.offsets))
    scales = np.ones(samples.count) if samples.scales is None else samples.scales
    factors = anp.reshape(build.constant(samples.factors, np.float32), (1, -1, 1))
    seed = build.value(SEED)
    rows = {name: _for_samples(build.value(name), samples.count) for name in cut.beside}
    rows |= {
        subject.image: _for_samples(build.value(subject.image), samples.count),
        layer.name: _for_samples(values, samples.count),
        OFFSET: flatten_rows(offsets),
        SCALE: flatten_rows(rows_for_images(scope, build.constant(scales[None], np.float32))),
        SEED: flatten_rows(
            repeat_rows(anp.expand_dims(seed, 1), samples.count)
            * anp.reshape(factors, (1, -1, *[1] * (seed.ndim - 1)))
        ),
    }
    results = inline(build, cut.model.graph, rows)
    return samples, {
        output.quantity: _stacked(scope, results[output.tensor], output.quantity, samples.count)
        for output in cut.outputs
    }


def _for_samples(value: Value, count: int) -> Value:
    """Every row once for each sample."""
    return flatten_rows(repeat_rows(anp.expand_dims(value, 1), count))


def _stacked(scope: Scope, value: Value, quantity: str, count: int) -> Finish:
    """(N, samples) of one number per row."""
    if QUANTITIES[quantity].reduction != "stack":
        raise ModelError(f"{quantity} of samples of a layer cannot be written into a graph")
    first = scope.images if isinstance(scope.images, int) else -1
    rows = anp.reshape(value.astype(FLOAT32), (first, count))
    rows.tensor.shape = [scope.images, count]
    return lambda: rows


def inline(build: Builder, graph: gs.Graph, feeds: Mapping[str, Value]) -> dict[str, Value]:
    """The outputs of another graph, by name, after its nodes were written with these inputs. Constants of the
    same name are shared.
    """
    tensors: dict[str, gs.Tensor] = {name: value.tensor for name, value in feeds.items()}
    for node in graph.nodes:
        inputs = [_shared(build, tensor, tensors) for tensor in node.inputs]
        outputs = [
            gs.Variable.empty()
            if tensor.is_empty()
            else gs.Variable(build.unique_name("cut"), tensor.dtype, tensor.shape)
            for tensor in node.outputs
        ]
        name = build.unique_name(f"cut/{node.op}")
        build.graph.nodes.append(
            gs.Node(node.op, name, dict(node.attrs), inputs, outputs, domain=node.domain)
        )
        for tensor, copy in zip(node.outputs, outputs, strict=True):
            if not tensor.is_empty():
                tensors[tensor.name] = build.tensors[copy.name] = copy
    return {tensor.name: Value(build, tensors[tensor.name]) for tensor in graph.outputs}


def _shared(build: Builder, tensor: gs.Tensor, tensors: Mapping[str, gs.Tensor]) -> gs.Tensor:
    """The tensor that takes the place of one of another graph."""
    if tensor.is_empty() or not isinstance(tensor, gs.Constant):
        return tensors.get(tensor.name, tensor)
    own = build.tensors.get(tensor.name)
    is_same = isinstance(own, gs.Constant) and own.values is tensor.values
    if is_same:
        return own
    return build.constant(tensor.values).tensor


def _require_memory(layer: Layer, values: Value, count: int) -> None:
    sizes = [size for size in values.shape[1:] if isinstance(size, int)]
    size = count * math.prod(sizes) * np.dtype(np.float32).itemsize
    if size > MOST_BYTES:
        raise ModelError(
            f"the {count} samples of {layer.name} have {size >> 20} MB, more than {MOST_BYTES >> 20} MB; "
            "choose a later layer, which has fewer cells"
        )
