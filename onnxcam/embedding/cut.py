"""Samples of the values of a layer: the model after it is written once more, on all samples in one batch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from onnxcam.embedding.collect import Collector, Finish
from onnxcam.embedding.draw import Drawing
from onnxcam.embedding.rounds import only_samples
from onnxcam.embedding.rows import flatten_rows, repeat_rows, write_rows
from onnxcam.embedding.scope import Scope
from onnxcam.errors import ModelError
from onnxcam.graph import anp
from onnxcam.graph.copying import copy_nodes
from onnxcam.graph.tracing import Value
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
    copy_nodes(build, list(build.graph.nodes), copies)
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
