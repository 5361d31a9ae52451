"""Write the network, its gradients and the formula of a method into one graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs

from onnxcam.arrays import FLOAT32, Dim
from onnxcam.embedding.collect import Collector, Finish
from onnxcam.embedding.draw import Drawing
from onnxcam.embedding.maps import LayerQuantities, write_maps
from onnxcam.embedding.order import sort_nodes
from onnxcam.embedding.rounds import Rounds
from onnxcam.embedding.rows import flatten_rows, row_of_image, sampled_rows, write_rows
from onnxcam.embedding.scope import BODY, Result, Scope
from onnxcam.embedding.target import TARGET_INPUT, EmbeddedTarget
from onnxcam.errors import SettingError
from onnxcam.graph import anp
from onnxcam.graph.tracing import Builder, Value
from onnxcam.methods.method import positional
from onnxcam.methods.place import LAYER
from onnxcam.methods.samplers.sampler import Samples
from onnxcam.model.model import Model
from onnxcam.passes.quantization.straight_through import detach_float_sources
from onnxcam.rewrite.explained import subject_at
from onnxcam.rewrite.programs import Subject, open_sources
from onnxcam.rewrite.sources import Sources
from onnxcam.specs import SAMPLE_INPUT, Layer, PlanRequest

OUTER_NAMES = (
    1_000_000  # the first number in the names of the outer graph, so that no other graph has them
)


@dataclass(frozen=True)
class Embedding:
    """What is written into a model.

    Attributes:
        request: what the method asks of the model.
        drawing: the method with its settings, the image input with its size, and what its sampler needs.
        layers: where its quantities are taken.
        images: the size of the batch, a number or a name.
        rounds: how the samples are run.
        target: what is explained.
        takes_target: whether the class is an input of the file.
        fuse: how the maps of several layers become one.
    """

    request: PlanRequest
    drawing: Drawing
    layers: Sequence[Layer]
    images: Dim
    rounds: Rounds
    target: EmbeddedTarget
    takes_target: bool
    fuse: str = "max"


@dataclass(frozen=True)
class Written:
    """The model with the original outputs, and the map (N, h, w) in its graph."""

    model: Model
    build: Builder
    image: Value
    saliency: Value
    scores: Value


def write_network(model: Model, embedding: Embedding) -> Written:
    """The model with the original outputs, and the map (N, h, w) that `finish` may add to them."""
    names = [tensor.name for tensor in model.graph.outputs]
    scored, subject = subject_at(
        model, embedding.request, [layer.name for layer in embedding.layers]
    )
    copy, sources = open_sources(scored, subject, subject.quantities)
    return _Writer(embedding, subject, copy, sources, names).write()


class _Writer:
    """Writes one graph."""

    def __init__(
        self,
        embedding: Embedding,
        subject: Subject,
        model: Model,
        sources: Sources,
        outputs: Sequence[str],
    ) -> None:
        self.embedding, self.subject, self.model = embedding, subject, model
        self.sources, self.outputs = sources, outputs
        body = sources.build
        self.image_tensor = body.value(subject.image).tensor
        self.image_readers = list(self.image_tensor.outputs)
        outer = body if embedding.rounds.count == 1 else self._outer_graph(body.graph)
        self.scope = Scope(outer, body, embedding.rounds.count, embedding.images)

    def _outer_graph(self, body: gs.Graph) -> Builder:
        image = self.image_tensor
        image_input = gs.Variable(image.name, image.dtype, list(image.shape))
        graph = gs.Graph(
            nodes=[],
            inputs=[image_input],
            outputs=[],
            name=body.name,
            opset=body.opset,
            import_domains=body.import_domains,
        )
        return Builder(graph, first=OUTER_NAMES)

    def write(self) -> Written:
        embedding, scope, rounds = self.embedding, self.scope, self.embedding.rounds
        image = scope.outer.value(self.subject.image)
        for tensor in (image.tensor, self.image_tensor):
            tensor.shape = [embedding.images, *tensor.shape[1:]]
        scope.image = image
        chosen = self._target_input()
        samples = embedding.drawing.draw(image)
        rows = write_rows(scope, rounds, image, samples)
        self._replace_image(rows)
        factors = self._factors(samples)
        self.sources.require_seed()
        scores = self._write_seed(factors, chosen)
        has_unit = embedding.drawing.formula.method.at == LAYER
        collector = Collector(scope, rounds, self.sources, samples, factors, has_unit)
        finishes = [self._collect(collector, layer) for layer in embedding.layers]
        self._feed_samples(samples)
        outputs = [self._original(name) for name in self.outputs]
        body = scope.body.graph
        body.inputs = [t for t in body.inputs if t.name in (self.subject.image, TARGET_INPUT)]
        body.outputs = []
        if scope.is_loop:
            scope.body.graph = body
            self._close_loop()
        layers = [
            LayerQuantities(
                layer, {name: finish() for name, finish in row.items()}, collector.unit(layer.name)
            )
            for layer, row in zip(embedding.layers, finishes, strict=True)
        ]
        named = dict(samples.named) if samples else {}
        taken = positional(embedding.drawing.formula.method.formula)
        named = {name: value for name, value in named.items() if name in taken}
        saliency = write_maps(
            embedding.drawing.formula,
            embedding.drawing.image,
            layers,
            self._as_values(named),
            embedding.fuse,
        )
        for name, result in zip(self.outputs, outputs, strict=True):
            scope.outer.tensors.pop(name, None)
            scope.outer.output(result.value, name)
        model = replace(self.model, graph=scope.outer.graph)
        return Written(model, scope.outer, image, saliency, scores.value)

    def _target_input(self) -> Value | None:
        if not self.embedding.takes_target:
            return None
        chosen = self.scope.outer.input(TARGET_INPUT, np.dtype(np.int64), (self.embedding.images,))
        return self.scope.capture(chosen)

    def _replace_image(self, rows: Value) -> None:
        """Let the network read the rows of a round instead of the images."""
        tensor = self.image_tensor
        if rows.tensor is tensor:
            return
        for node in self.image_readers:
            node.inputs = [rows.tensor if t is tensor else t for t in node.inputs]
        self.scope.body.tensors[self.subject.image] = rows.tensor  # what quantities read

    def _factors(self, samples: Samples | None) -> Any:
        """(rounds, size): the factors of the cotangents; that of the image itself is 0 if only its score and
        values are needed.
        """
        rounds, quantities = self.embedding.rounds, self.subject.quantities
        needs_clean = any(q.needs_target and not q.is_sampled for q in quantities)
        if samples is None:
            return np.ones((1, 1), np.float32)
        rows = rounds.rows_of(samples.factors)
        if needs_clean and not rounds.is_alone:
            rows[0, 0] = 1.0
        return rows

    def _write_seed(self, factors: Any, chosen: Value | None) -> Result:
        """Choose what is explained from the scores of the image itself, and make the cotangents of all rows of
        it. Returns the scores (N, classes).
        """
        scope, rounds = self.scope, self.embedding.rounds
        body, seed = scope.body, self.sources.require_seed()
        images, classes = scope.images, self.subject.score.classes
        explained = body.value(self.subject.explained)
        clean = row_of_image(explained, images, rounds.size).astype(FLOAT32)
        scores = anp.reshape(clean, (-1, classes)) if clean.ndim != 2 else clean
        scores.tensor.shape = [images, classes]
        weights = scope.from_first_round(self.embedding.target.write(scores, chosen)).body
        rows = anp.expand_dims(weights, 1)
        if (factors != 1.0).any() or rounds.size > 1:
            rows = rows * anp.reshape(scope.pick(factors), (1, rounds.size, 1))
        flat = flatten_rows(rows)
        cotangents = flat if seed.ndim == 2 else body.reshape_like(flat, explained)
        self._replace(seed.tensor, cotangents.astype(seed.dtype))
        return scope.from_first_round(scores)

    def _replace(self, tensor: gs.Tensor, value: Value) -> None:
        """Let all readers of an input read a Value instead."""
        for node in list(tensor.outputs):
            node.inputs = [value.tensor if t is tensor else t for t in node.inputs]
        self.scope.body.tensors[tensor.name] = value.tensor

    def _collect(self, collector: Collector, layer: Layer) -> dict[str, Finish]:
        places = [layer.name] if layer.name in self.sources.places else [*self.sources.places]
        return {
            quantity.name: collector.collect(quantity, places[0])
            for quantity in self.subject.quantities
        }

    def _feed_samples(self, samples: Samples | None) -> None:
        """Let the quantities read what the sampler feeds for its samples."""
        body, rounds = self.scope.body, self.embedding.rounds
        for tensor in [t for t in body.graph.inputs if t.name.startswith(SAMPLE_INPUT)]:
            name = tensor.name.removeprefix(SAMPLE_INPUT)
            if samples is None or name not in samples.inputs:
                raise SettingError(f"the sampler feeds no {name!r}")
            rows = sampled_rows(self.scope, rounds, samples.inputs[name])
            flat = rows[0] if rows.shape[0] == 1 and self.scope.images == 1 else flatten_rows(rows)
            self._replace(tensor, flat.astype(tensor.dtype))

    def _original(self, name: str) -> Result:
        """An output of the original model, for the images themselves."""
        body = self.scope.body
        value = body.value(name)
        value.tensor.name = f"{BODY}/{name}"
        body.tensors[value.name] = value.tensor
        return self.scope.from_first_round(
            row_of_image(value, self.scope.images, self.embedding.rounds.size)
        )

    def _close_loop(self) -> None:
        body = self.scope.body.graph
        body.inputs = []
        self.scope.close(lambda graph: detach_float_sources(sort_nodes(graph)))

    def _as_values(self, named: Mapping[str, Any]) -> dict[str, Any]:
        outer = self.scope.outer
        return {
            name: value if isinstance(value, Value) else outer.constant(value, np.float32)
            for name, value in named.items()
        }
