"""Write the quantities of a method into the graph, and divide the graph into the programs that are run.

What does not depend on the image needs no forward pass, so it becomes a model of its own. So does the part of
the model after a layer whose values the samples change, and the gradient at the image if only samples need it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from onnxcam.autodiff.tables import RULE_TABLES
from onnxcam.errors import NeedsOpsetError
from onnxcam.graph import anp
from onnxcam.graph.reachability import depends_on, producer
from onnxcam.graph.tracing import Builder, Value
from onnxcam.methods.place import Place
from onnxcam.methods.quantities import QUANTITIES, Quantity
from onnxcam.model.load import upgrade_model
from onnxcam.model.model import Model
from onnxcam.passes.unneeded_rows import drop_unneeded_rows
from onnxcam.rewrite.constant_gradient import (
    prune_outputs,
    split_constant_outputs,
    weight_bytes,
)
from onnxcam.rewrite.gradient import Sweep, gradients
from onnxcam.rewrite.ranked_seed import add_ranks
from onnxcam.rewrite.sampled_inputs import add_offset, cut_at, tensors_beside
from onnxcam.rewrite.sources import TAIL, Sources
from onnxcam.rewrite.tails import with_tails
from onnxcam.specs import CONSTANT, HEAD, MODEL, REFERENCE, SAMPLED, SEED, Output, Program, Score

FLOAT64 = np.dtype(np.float64)
MAX_REPEATED_BYTES = 256 << 20  # of weights that two models hold


@dataclass(frozen=True)
class Subject:
    """What the programs of a model compute: the quantities, where they are taken, and what is explained.

    batch: the number of images that the model always takes, None if it takes any.
    """

    image: str
    batch: int | None
    score: Score
    explained: str
    rules: str
    quantities: Sequence[Quantity]
    places: Sequence[Place]
    varies: str

    @property
    def layers(self) -> list[str]:
        """The names of the tensors where the quantities are taken."""
        return [place.tensor for place in self.places]


@dataclass
class Programs:
    """The models by name, the four programs and the tensors beside the layer (see `Plan`), and the layers where
    a derivative of the gradient is zero everywhere.
    """

    models: dict[str, Model]
    clean: Program = field(default_factory=lambda: Program(MODEL))
    constant: Program = field(default_factory=lambda: Program(MODEL))
    sampled: Program = field(default_factory=lambda: Program(MODEL))
    constant_sampled: Program = field(default_factory=lambda: Program(MODEL))
    beside: tuple[str, ...] = ()
    vanishing: frozenset[str] = frozenset()

    @property
    def seed(self) -> tuple[tuple[int, ...], str]:
        """The shape of one image's cotangent, and the name of its dtype."""
        inputs = (tensor for model in self.models.values() for tensor in model.graph.inputs)
        seed = next(tensor for tensor in inputs if tensor.name == SEED)
        shape = tuple(dim if isinstance(dim, int) else 1 for dim in seed.shape[1:])
        return shape, np.dtype(seed.dtype).name


class _Written(NamedTuple):
    """A model with quantities as outputs."""

    model: Model
    outputs: list[Output]
    vanishing: set[str]


def write_programs(model: Model, subject: Subject) -> Programs:
    """The models and programs of a subject. The opset is upgraded if an expression needs it."""
    while True:
        try:
            return _write(model, subject)
        except NeedsOpsetError as need:
            model = upgrade_model(model, need.opset)


def _write(model: Model, subject: Subject) -> Programs:
    clean = [quantity for quantity in subject.quantities if not quantity.is_sampled]
    sampled = [quantity for quantity in subject.quantities if quantity.is_sampled]
    if subject.varies != "activation":
        programs = _divide(_write_quantities(model, subject, [*clean, *sampled]), subject)
        for name in (MODEL, SAMPLED):
            if subject.varies and name in programs.models:
                add_offset(programs.models[name].graph, subject.image)
        return programs
    cut = write_cut_model(model, subject, sampled)
    programs = _divide(_write_quantities(model, subject, clean), subject, cut.beside)
    programs.models[HEAD], programs.beside = cut.model, cut.beside
    programs.sampled = Program(HEAD, cut.outputs)
    return programs


class CutModel(NamedTuple):
    """The model after a layer, its outputs with quantities, and the tensors that it reads besides the layer."""

    model: Model
    outputs: tuple[Output, ...]
    beside: tuple[str, ...]


def write_cut_model(model: Model, subject: Subject, quantities: Sequence[Quantity]) -> CutModel:
    """The model after the layer of a subject, with an offset of the layer's values."""
    written = _write_quantities(model, subject, quantities)
    beside = _cut(model, subject, written)
    return CutModel(written.model, tuple(written.outputs), beside)


def _cut(model: Model, subject: Subject, written: _Written) -> tuple[str, ...]:
    """Leave only what is after the layer, in place. Returns the tensors of the model that are read besides it:
    they are the same for all samples of an image.
    """
    (layer,), graph = subject.layers, written.model.graph
    outputs = [subject.explained, *(output.tensor for output in written.outputs)]
    cut_at(graph, layer)
    prune_outputs(written.model, outputs)
    beside = tensors_beside(graph, layer, subject.image)
    beside = tuple(name for name in beside if name in model.graph.tensors())
    for name in beside:
        cut_at(graph, name)
    prune_outputs(written.model, outputs)
    drop_unneeded_rows(graph, {layer, *beside})
    graph.inputs = [tensor for tensor in graph.inputs if tensor.outputs]
    add_offset(graph, layer)
    return beside


def open_sources(
    model: Model, subject: Subject, quantities: Sequence[Quantity]
) -> tuple[Model, Sources]:
    """A copy of the model with the gradients that the quantities need, and what their expressions are written
    from.
    """
    sweeps = _sweeps(subject, quantities)
    if any("tail_gradient" in quantity.sources for quantity in quantities):
        model, scores = with_tails(model, subject.places, subject.explained)
        rules = RULE_TABLES[subject.rules]
        sweeps += [Sweep(rules, [tensor], TAIL, score) for tensor, score in scores.items()]
    copy = gradients(model, subject.explained, sweeps) if sweeps else model.copy()
    build = Builder(copy.graph)
    if SEED in build.tensors:
        build.batch = build.value(SEED)
    places = {place.tensor: place for place in subject.places}
    return copy, Sources(
        build, subject.image, subject.explained, subject.score, subject.rules, places=places
    )


def _write_quantities(model: Model, subject: Subject, quantities: Sequence[Quantity]) -> _Written:
    """A copy of the model with the quantities at all places as outputs, and the explained tensor."""
    copy, sources = open_sources(model, subject, quantities)
    build = sources.build
    outputs = [
        Output(quantity.name, number, _write_output(sources, quantity, layer, subject.batch))
        for quantity in quantities
        for number, layer in enumerate(subject.layers)
        if number == 0 or quantity.place == "layer"
    ]
    present = {tensor.name for tensor in copy.graph.outputs}
    if subject.explained not in present:
        copy.graph.outputs.append(build.value(subject.explained).tensor)
    sources.require_seed()  # every program has this input
    return _Written(copy, outputs, sources.vanishing)


def _sweeps(subject: Subject, quantities: Sequence[Quantity]) -> list[Sweep]:
    """The backward passes that the quantities need: one for each table of rules."""
    tables = sorted({quantity.rules for quantity in quantities})
    wrt = {
        table: _differentiated(subject, (q for q in quantities if q.rules == table))
        for table in tables
    }
    return [
        Sweep(RULE_TABLES[table or subject.rules], wrt[table], table)
        for table in tables
        if wrt[table]
    ]


def _differentiated(subject: Subject, quantities: Iterable[Quantity]) -> list[str]:
    """The tensors with respect to which gradients are needed."""
    needed = {source for quantity in quantities for source in quantity.sources}
    layers = subject.layers if needed & {"gradient", "vjp", "absorbed", "reference_score"} else []
    images = [subject.image] if "image_gradient" in needed else []
    return [*dict.fromkeys([*layers, *images])]


def _write_output(sources: Sources, quantity: Quantity, layer: str, batch: int | None) -> str:
    """The name of the graph output with a quantity. A mean over the samples is a sum there if it can be (see
    `Quantity.is_summed`), in float64: the cube of a gradient of 1e-13 is 0 in float32.
    """
    build, arguments = sources.build, sources.arguments(quantity, layer)
    if quantity.reduction == "mean":
        arguments = {name: _to_float64(value) for name, value in arguments.items()}
    value: Value = quantity.expression(**arguments)
    if value.constant is not None:
        value = sources.for_each_image(value)
    if quantity.is_summed(batch):
        value = anp.sum(value, axis=0, keepdims=True)
    source = producer(value.tensor)
    if source is not None and source.op == "Cast" and source.inputs[0].name == layer:
        value = build.value(layer)  # the half precision itself takes less memory
    outputs = {tensor.name for tensor in build.graph.outputs}
    if value.name in outputs:
        return value.name
    if value.name == layer and value.tensor.inputs:
        build.graph.outputs.append(value.tensor)
        return value.name
    name = f"{quantity.name}/{layer}"
    if name not in outputs:
        build.output(value, name)
    return name


def _to_float64(value: Any) -> Any:
    return value.astype(FLOAT64) if isinstance(value, Value) else value


def _divide(written: _Written, subject: Subject, beside: Sequence[str] = ()) -> Programs:
    """The programs of a model: those that depend on an image, and those that depend on the cotangents only. The
    model also returns the tensors `beside` a layer.
    """
    model, tensors = written.model, written.model.graph.tensors()
    varying: list[Output] = []
    constant: list[Output] = []
    for output in written.outputs:
        depends = depends_on(tensors[output.tensor], {subject.image, REFERENCE})
        (varying if depends else constant).append(output)
    present = {tensor.name for tensor in model.graph.outputs}
    model.graph.outputs += [tensors[name] for name in beside if name not in present]
    names = [subject.explained, *beside, *(output.tensor for output in (*varying, *constant))]
    prune_outputs(model, names)
    programs = Programs({MODEL: model}, vanishing=frozenset(written.vanishing))
    home = MODEL
    if constant:
        moved = split_constant_outputs(model, [output.tensor for output in constant])
        if moved is not None:
            programs.models[CONSTANT], home = moved, CONSTANT
    programs.clean, programs.sampled = _split(varying, MODEL)
    programs.constant, programs.constant_sampled = _split(constant, home)
    if _only_samples_go_back(programs, subject) and weight_bytes(model) <= MAX_REPEATED_BYTES:
        _move_samples(programs, subject)
    if any(depends_on(tensors[name], {SEED}) for name in programs.clean.tensors):
        add_ranks(model.graph, subject.explained, subject.score.classes)
    return programs


def _only_samples_go_back(programs: Programs, subject: Subject) -> bool:
    """Whether the samples alone need a gradient at the image. A gradient at a layer takes less time."""
    clean, sampled = (
        [QUANTITIES[output.quantity].needs_gradient for output in program.outputs]
        for program in (programs.clean, programs.sampled)
    )
    return any(sampled) and not any(clean) and subject.layers == [subject.image]


def _move_samples(programs: Programs, subject: Subject) -> None:
    """Give the samples a model of their own, so that scores are computed without a backward pass."""
    model, outputs = programs.models[MODEL], programs.sampled.outputs
    samples = replace(model, graph=model.graph.copy())
    prune_outputs(samples, [subject.explained, *programs.sampled.tensors])
    prune_outputs(model, [subject.explained, *programs.clean.tensors])
    for graph in (samples.graph, model.graph):
        graph.inputs = [
            tensor
            for tensor in graph.inputs
            if tensor.outputs or tensor.name in (subject.image, SEED)
        ]
    programs.models[SAMPLED], programs.sampled = samples, Program(SAMPLED, outputs)


def _split(outputs: Sequence[Output], model: str) -> tuple[Program, Program]:
    clean = tuple(output for output in outputs if not QUANTITIES[output.quantity].is_sampled)
    sampled = tuple(output for output in outputs if QUANTITIES[output.quantity].is_sampled)
    return Program(model, clean), Program(model, sampled)
