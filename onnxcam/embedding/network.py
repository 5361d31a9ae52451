"""Write the network, its gradients and the formula of a method into one graph."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs

from onnxcam.arrays import FLOAT32, Floats
from onnxcam.dense import DENSE, WHERE
from onnxcam.embedding.collect import Collector, Finish
from onnxcam.embedding.cut import write_cut_samples
from onnxcam.embedding.evidence import write_evidence
from onnxcam.embedding.explained import Embedding, find_subject
from onnxcam.embedding.maps import LayerQuantities, write_maps
from onnxcam.embedding.metadata import TARGET
from onnxcam.embedding.order import sort_nodes
from onnxcam.embedding.positions import choose_positions
from onnxcam.embedding.rows import (
    flatten_rows,
    repeat_rows,
    row_of_image,
    rows_for_images,
    sampled_rows,
    write_rows,
)
from onnxcam.embedding.scope import Result, Scope, require_selectable
from onnxcam.graph import anp
from onnxcam.graph.tracing import Builder, Value
from onnxcam.methods.method import positional
from onnxcam.methods.samplers.sampler import Samples
from onnxcam.methods.units import unit_power
from onnxcam.model.model import Model
from onnxcam.passes.quantization.straight_through import detach_float_sources
from onnxcam.rewrite.programs import Subject, open_sources, write_cut_model
from onnxcam.rewrite.sources import Sources
from onnxcam.specs import Layer, sample_input

OUTER_NAMES = (
    1_000_000  # the first number in the names of the outer graph, so that no other graph has them
)


@dataclass(frozen=True)
class Written:
    """The model with the original outputs, and the map (N, h, w) in its graph. `target_name` is how the input
    with the class is called there, `target_exists` (N,) whether there is such a class, or text; None: always.
    """

    model: Model
    build: Builder
    image: Value
    saliency: Value
    target_name: str | None = None
    target_exists: Value | None = None


def write_network(model: Model, embedding: Embedding) -> Written:
    """The model with the original outputs, and the map (N, h, w) that `finish` may add to them."""
    names = [tensor.name for tensor in model.graph.outputs]
    scored, subject = find_subject(model, embedding)
    if embedding.dense is not None:
        scored = _with_output(scored, DENSE)
    copy, sources = open_sources(scored, subject, subject.quantities)
    return _Writer(embedding, subject, scored, copy, sources, names).write()


def _with_output(model: Model, name: str) -> Model:
    """The model with a tensor among its outputs, so that it stays in the graph."""
    copy = model.copy()
    copy.graph.outputs.append(copy.graph.tensors()[name])
    return copy


class _Writer:
    """Writes one graph."""

    def __init__(
        self,
        embedding: Embedding,
        subject: Subject,
        scored: Model,
        model: Model,
        sources: Sources,
        outputs: Sequence[str],
    ) -> None:
        self.embedding, self.subject, self.model = embedding, subject, model
        self.scored = scored  # without gradients
        self.sources, self.outputs = sources, outputs
        self.target_exists: Result | None = None
        body = sources.build
        self.image_tensor = body.value(subject.image).tensor
        self.image_readers = list(self.image_tensor.outputs)
        outer = body if embedding.rounds.count == 1 else self._outer_graph(body.graph)
        image = outer.value(subject.image)
        for tensor in (image.tensor, self.image_tensor):
            tensor.shape = [embedding.images, *tensor.shape[1:]]
        captured = {subject.image: self.image_tensor}
        self.scope = Scope(outer, body, embedding.rounds.count, image, captured)

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
        """The model with the original outputs, and the map in its graph."""
        scope, image = self.scope, self.scope.image
        target = self._target_input()
        chosen = None if target is None else scope.capture(target)
        samples = None if self.is_cut else self.embedding.drawing.draw(image)
        is_alone = self.embedding.rounds.is_alone
        self._replace_image(
            write_rows(scope, self.embedding.rounds, image, None if is_alone else samples)
        )
        self._feed_samples(samples)
        factors = self._factors(samples)
        scores = self._write_seed(factors, chosen)
        samples, finish_layers = self._collect_all(samples, factors)
        outputs = [self._original(name) for name in self.outputs]
        self._close(target)
        saliency = self._write_maps(finish_layers(), samples, scores.value)
        for name, result in zip(self.outputs, outputs, strict=True):
            self._add_output(name, result.value)
        model = replace(self.model, graph=scope.outer.graph)
        exists = None if self.target_exists is None else self.target_exists.value
        written = Written(model, scope.outer, image, saliency, target_exists=exists)
        if target is None:
            return written
        is_class = self.embedding.target.exists(target, self.subject.score.classes)
        both = is_class if exists is None else is_class & exists
        return replace(written, target_name=target.name, target_exists=both)

    @property
    def is_cut(self) -> bool:
        """Whether the samples differ in the values of a layer."""
        return self.embedding.request.varies == "activation"

    def _collect_all(
        self, samples: Samples | None, factors: Floats
    ) -> tuple[Samples | None, Callable[[], list[LayerQuantities]]]:
        """The samples, and a function that returns the quantities of the layers after the rounds are closed."""
        embedding = self.embedding
        formula = embedding.drawing.formula
        has_unit = unit_power(formula.method, formula.settings) is not None
        rounds = embedding.rounds
        collector = Collector(self.scope, rounds, self.sources, samples, factors, has_unit)
        rows = [self._collect(collector, layer) for layer in embedding.layers]
        if self.is_cut:
            sampled = [quantity for quantity in self.subject.quantities if quantity.is_sampled]
            cut = write_cut_model(self.scored, self.subject, sampled)
            samples, of_samples = write_cut_samples(
                self.scope, self.subject, embedding.drawing, embedding.layers[0], cut
            )
            rows[0] |= of_samples

        def finish() -> list[LayerQuantities]:
            return [
                LayerQuantities(
                    layer,
                    {name: finish() for name, finish in row.items()},
                    collector.unit(layer.name),
                )
                for layer, row in zip(embedding.layers, rows, strict=True)
            ]

        return samples, finish

    def _close(self, target: Value | None) -> None:
        """Leave no inputs but the images and the target, and write the Loop."""
        body = self.scope.body.graph
        names = (self.subject.image, target.name if target is not None else None)
        body.inputs = [tensor for tensor in body.inputs if tensor.name in names]
        body.outputs = []
        if self.scope.is_loop:
            body.inputs = []
            self.scope.close(lambda graph: detach_float_sources(sort_nodes(graph)))

    def _write_maps(
        self, layers: Sequence[LayerQuantities], samples: Samples | None, scores: Value
    ) -> Value:
        """The map (N, h, w)."""
        formula = self.embedding.drawing.formula
        taken, outer = positional(formula.method.formula), self.scope.outer
        named = {
            name: value if isinstance(value, Value) else outer.constant(value, np.float32)
            for name, value in (samples.named if samples else {}).items()
            if name in taken
        }
        rule, weights = self.embedding.rounding, self.weights.value
        evidence = None if rule is None else write_evidence(rule, layers, weights, scores)
        image, fuse = self.embedding.drawing.image, self.embedding.fuse
        return write_maps(formula, image, layers, named, fuse, evidence)

    def _target_input(self) -> Value | None:
        if not self.embedding.takes_target:
            return None
        outer = self.scope.outer
        name = outer.unique_name(TARGET)
        return outer.input(name, np.dtype(np.int64), (self.embedding.images,))

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
        body.batch = None  # the cotangents, from which sizes were read, are made of what follows
        scores = self._clean_scores()
        self.weights = scope.from_first_round(self._choose(scores, chosen))
        weights = self.weights.body
        rows = anp.expand_dims(weights, 1)
        if (factors != 1.0).any() or rounds.size > 1:
            rows = rows * anp.reshape(scope.pick(factors), (1, rounds.size, 1))
        flat = flatten_rows(rows)
        explained = body.value(self.subject.explained)
        cotangents = flat if seed.ndim == 2 else body.reshape_like(flat, explained)
        self._replace(seed.tensor, cotangents.astype(seed.dtype))
        return scope.from_first_round(scores)

    def _clean_scores(self) -> Value:
        """(N, classes) of the images themselves."""
        images, size = self.scope.images, self.embedding.rounds.size
        explained = self.scope.body.value(self.subject.explained)
        clean = row_of_image(explained, images, size).astype(FLOAT32)
        scores = clean if clean.ndim == 2 else anp.reshape(clean, (-1, self.subject.score.classes))
        scores.tensor.shape = [images, self.subject.score.classes]
        return scores

    def _choose(self, scores: Value, chosen: Value | None) -> Value:
        """The weights of the scores (N, classes), and of positions, which the network reads."""
        embedding, scope, body = self.embedding, self.scope, self.scope.body
        if embedding.dense is None:
            return embedding.target.write(scores, chosen)
        size = embedding.rounds.size
        at_positions = row_of_image(body.value(DENSE), scope.images, size)
        choice = choose_positions(
            embedding.dense, at_positions, embedding.target, chosen, embedding.where
        )
        where = scope.from_first_round(choice.where).body
        rows = flatten_rows(repeat_rows(anp.expand_dims(where, 1), size))
        self._replace(body.value(WHERE).tensor, rows)
        if choice.exists is not None:
            self.target_exists = scope.from_first_round(choice.exists)
        return choice.weights

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
            if not (self.is_cut and quantity.is_sampled)
        }

    def _feed_samples(self, samples: Samples | None) -> None:
        """Let the network and the quantities read what the sampler feeds for its samples."""
        body, rounds = self.scope.body, self.embedding.rounds
        fed = samples.inputs if samples else {}
        for name, rows in fed.items():
            value = sampled_rows(self.scope, rounds, rows)
            flat = flatten_rows(rows_for_images(self.scope, value))
            existing = body.tensors.get(sample_input(name))
            if existing is None:
                body.tensors[sample_input(name)] = flat.tensor
            else:
                self._replace(existing, flat.astype(existing.dtype))

    def _original(self, name: str) -> Result:
        """An output of the original model, for the images themselves."""
        body, size = self.scope.body, self.embedding.rounds.size
        if name == self.subject.image:
            return Result(self.scope.image, self.scope.image)
        value = body.value(name)
        if self.scope.is_loop or size > 1:
            require_selectable(name, value.dtype)
            value.tensor.name = body.unique_name("original")
            body.tensors[value.name] = value.tensor
        return self.scope.from_first_round(row_of_image(value, self.scope.images, size))

    def _add_output(self, name: str, value: Value) -> None:
        """Return a value under the name of an output of the original model."""
        outer = self.scope.outer
        if value.name == name:
            outer.graph.outputs.append(value.tensor)
            return
        outer.tensors.pop(name, None)
        outer.output(value, name)
        outer.graph.nodes[-1].name = outer.unique_name("output")
