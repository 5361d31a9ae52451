"""Samples of the values of a layer: the model after it is written once more, on all samples in one batch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import onnx_graphsurgeon as gs

from onnxcam.arrays import Dim
from onnxcam.embedding.collect import Collector, Finish
from onnxcam.embedding.draw import Drawing
from onnxcam.embedding.rounds import only_samples
from onnxcam.embedding.rows import flatten_rows, repeat_rows, write_rows
from onnxcam.embedding.scope import Scope
from onnxcam.errors import ModelError
from onnxcam.graph import anp
from onnxcam.graph.copying import copy_nodes
from onnxcam.graph.dims import is_static
from onnxcam.graph.tracing import Builder, Value
from onnxcam.methods.quantities import Quantity
from onnxcam.methods.samplers.sampler import Samples
from onnxcam.rewrite.programs import Subject
from onnxcam.rewrite.sampled_inputs import tensors_beside
from onnxcam.rewrite.sources import Sources
from onnxcam.specs import SEED, Layer

MOST_BYTES = 1 << 30  # of the values of all samples of an image


def write_cut_samples(
    scope: Scope,
    sources: Sources,
    subject: Subject,
    drawing: Drawing,
    layer: Layer,
    quantities: Sequence[Quantity],
) -> tuple[Samples, dict[str, Finish]]:
    """The samples, and the quantities of them by name. ModelError if they do not fit into memory."""
    build = scope.body
    values = build.value(layer.name)
    samples = drawing.draw(build.value(subject.image), values, layer)
    if samples is None:
        raise ModelError(f"{drawing.formula.method.name} has no samples of a layer")
    _require_memory(layer, values, samples.count)
    rounds = only_samples(samples.count)
    copies = {layer.name: write_rows(scope, rounds, values, samples).tensor}
    for name in tensors_beside(build.graph, layer.name, subject.image):
        images = anp.expand_dims(build.value(name), 1)
        copies[name] = flatten_rows(repeat_rows(images, samples.count)).tensor
    copies |= _sizes_of_rows(build, copies, values)
    nodes = list(build.graph.nodes)
    copy_nodes(build, nodes, copies, resized=True)
    for node in build.graph.nodes[len(nodes) :]:
        _free_rows(node, values.shape[0], _row_count(values, samples.count))
    explained, output = (
        copies[name].name if name in copies else name
        for name in (subject.explained, subject.score.output)
    )
    seed = anp.expand_dims(build.value(SEED), 1)
    factors = rounds.rows_of(samples.factors)
    rows = repeat_rows(seed, samples.count) * anp.reshape(
        build.constant(factors[0]), (1, -1, *[1] * (seed.ndim - 2))
    )
    build.tensors[SEED] = flatten_rows(rows).tensor
    cut = replace(
        sources, explained=explained, score=replace(subject.score, output=output, logits=explained)
    )
    collector = Collector(scope, rounds, cut, samples, factors, has_unit=False)
    return samples, {
        quantity.name: collector.collect(quantity, layer.name) for quantity in quantities
    }


def _require_memory(layer: Layer, values: Value, count: int) -> None:
    sizes = [size for size in values.shape[1:] if isinstance(size, int)]
    size = count * math.prod(sizes) * np.dtype(np.float32).itemsize
    if size > MOST_BYTES:
        raise ModelError(
            f"the {count} samples of {layer.name} have {size >> 20} MB, more than {MOST_BYTES >> 20} MB; "
            "choose a later layer, which has fewer cells"
        )


def _row_count(values: Value, count: int) -> Dim:
    """The number of rows of all images, None if it is free."""
    images = values.shape[0]
    return images * count if isinstance(images, int) else None


def _sizes_of_rows(
    build: Builder, copies: Mapping[str, gs.Tensor], values: Value
) -> dict[str, gs.Tensor]:
    """The shapes of tensors with a row per image, as they are with a row per sample, by name: those of tensors
    before the layer, which have no copy.
    """
    images = values.shape[0]
    rows = build.op("Shape", Value(build, copies[values.name]))
    first = build.op("Gather", rows, build.constant(np.array([0])), axis=0)
    sizes = {}
    for node in [node for node in build.graph.nodes if node.op == "Shape" and not node.attrs]:
        shape = tuple(node.inputs[0].shape or ())
        if shape[:1] == (images,) and all(isinstance(size, int) for size in shape[1:]):
            rest = build.constant(np.array(shape[1:], np.int64))
            sizes[node.outputs[0].name] = build.op("Concat", first, rest, axis=0).tensor
    return sizes


def _free_rows(node: gs.Node, images: Dim, rows: Dim) -> None:
    """Let a copy take a row per sample where the node has a row per image, in place: the constant target of a
    Reshape, which may hold the number of images, gets a -1 in front, as in a model whose batch is freed.
    """
    after = tuple(node.outputs[0].shape or ())
    if node.op == "Reshape" and isinstance(node.inputs[1], gs.Constant) and is_static(after):
        sizes = np.array([-1, *after[1:]], np.int64)
        node.inputs[1] = gs.Constant(f"{node.outputs[0].name}/rows", sizes)
    for tensor in node.outputs:
        if tensor.shape and tensor.shape[0] == images:
            tensor.shape = [rows, *tensor.shape[1:]]
