"""Turn a model and a request into the programs that are run: choose the layers and expose their tensors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import onnx_graphsurgeon as gs

from onnxcam.arrays import FLOAT32
from onnxcam.autodiff.backward import raise_if_blocked
from onnxcam.autodiff.tables import RULE_TABLES
from onnxcam.dense import NO_CHOICE, HeadChoice
from onnxcam.errors import BlockedError, MissingRuleError, ModelError, UnknownNameError
from onnxcam.graph.node_errors import reports_node
from onnxcam.graph.reachability import depends_on
from onnxcam.heads.positions import with_dense_scores
from onnxcam.methods import METHODS
from onnxcam.methods.place import IMAGE, LAYER, Place
from onnxcam.model.image_input import image_input
from onnxcam.model.model import Model
from onnxcam.model.training_mode import training_notices
from onnxcam.passes.quantization.straight_through import is_quantized
from onnxcam.rewrite.answers import PlannedModel, plan_answers
from onnxcam.rewrite.automatic_layers import automatic_layers
from onnxcam.rewrite.explained import Explained, find_explained
from onnxcam.rewrite.float_image import image_dtype
from onnxcam.rewrite.gradient import gradient
from onnxcam.rewrite.hints import add_hint
from onnxcam.rewrite.places import find_places, layers_at
from onnxcam.rewrite.programs import Programs, Subject, write_programs
from onnxcam.rewrite.straight_through import straight_through_notices
from onnxcam.spatial.layer_names import find_layers
from onnxcam.spatial.layers import candidates, spatial_layers
from onnxcam.specs import (
    AUTO,
    Layer,
    Plan,
    PlanRequest,
    gradient_at,
)


@reports_node
def plan(model: Model, request: PlanRequest) -> PlannedModel:
    """How to run a request, and what is run. Nothing but the arguments may affect the result: they are the key
    of the cache.

    Raises UnknownNameError for an unknown layer, MissingRuleError, and ModelError if the model has no image
    input, no score, or no layer.
    """
    if request.answers:
        return plan_answers(model, request)
    subject = find_explained(model, request)
    try:
        if request.at == IMAGE:
            return _plan_places(subject, [subject.image.as_layer()])
        if request.at != LAYER:
            return _plan_tensors(subject)
        layers = spatial_layers(subject.model, subject.image.name, subject.explained)
        if not request.layers:
            raise UnknownNameError("no layer was named; name at least one, or use auto")
        if request.layers == (AUTO,):
            return _plan_automatic(subject, layers)
        return _plan_places(subject, find_layers(layers, request.layers))
    except (BlockedError, MissingRuleError) as error:
        table = RULE_TABLES[request.rules]
        image, explained = subject.image.name, subject.explained
        raise add_hint(error, subject.model, image, explained, table) from error


def _plan_tensors(subject: Explained) -> PlannedModel:
    """The plan at the tensors that the place of the method finds in the model."""
    image, explained, at = subject.image.name, subject.explained, subject.request.at
    model, places = find_places(subject.model, image, explained, at)
    return _plan_places(subject._replace(model=model), layers_at(model, places), places)


def _plan_places(
    subject: Explained, layers: Sequence[Layer], places: Sequence[Place] | None = None
) -> PlannedModel:
    request, model, image, score, explained, about = subject[:6]
    _require_single_layer(model, request, layers)
    places = places or [Place(layer.name, layer.channel_axis) for layer in layers]
    rules, quantities, varies = request.rules, subject.quantities, request.varies
    programs = write_programs(
        model,
        Subject(image.name, image.batch, score, explained, rules, quantities, places, varies),
    )
    first = next(iter(programs.models.values()))
    seed_shape, seed_dtype = programs.seed
    about_gradients = [("vjp", notice) for notice in _vanishing_notices(programs)]
    if subject.needs_gradient:
        sources = [layer.name for layer in layers]
        about_gradients += straight_through_notices(model.graph, sources, explained)
    planned = Plan(
        name=first.name,
        digest=first.digest,
        metadata=first.metadata,
        notices=(
            *first.notices,
            *_layer_notices(layers),
            *dict.fromkeys(place.notice for place in places if place.notice),
            *dict.fromkeys(notice for _, notice in about_gradients),
            *training_notices(first.graph),
        ),
        image=image,
        image_dtype=image_dtype(model, image).name,
        score=score,
        explained_tensor=explained,
        layers=tuple(layers),
        clean=programs.clean,
        constant=programs.constant,
        sampled=programs.sampled,
        constant_sampled=programs.constant_sampled,
        seed_shape=seed_shape,
        seed_dtype=seed_dtype,
        inputs=first.inputs,
        target=request.target,
        beside=programs.beside,
        epsilon=max(_epsilon(first.graph, layer.name) for layer in layers),
        source_notices=(*about, *about_gradients),
        dense=subject.dense,
        task=subject.task,
        names=subject.names,
        is_quantized=is_quantized(model.graph),
    )
    return PlannedModel(planned, programs.models)


def _require_single_layer(model: Model, request: PlanRequest, layers: Sequence[Layer]) -> None:
    """ModelError for several layers, if the method makes samples from the values of one."""
    if request.single_layer and len(layers) > 1:
        names = ", ".join(layer.name for layer in layers)
        raise ModelError(
            f"{model.name}: the method makes samples from the values of one layer, but there are {len(layers)} "
            f"({names}); name one of them with --layer"
        )


def _epsilon(graph: gs.Graph, layer: str) -> float:
    """The machine epsilon of a layer's dtype; that of float32 for finer ones."""
    tensors = graph.tensors()
    dtype = tensors[layer].dtype if layer in tensors else FLOAT32
    is_coarse = not isinstance(dtype, int) and np.dtype(dtype) == np.float16
    return float(np.finfo(np.float16 if is_coarse else np.float32).eps)


def _vanishing_notices(programs: Programs) -> Iterator[str]:
    if programs.vanishing:
        names = ", ".join(sorted(programs.vanishing))
        yield (
            f"all operators after {names} are piecewise linear, so second derivatives are 0 there "
            "and change nothing"
        )


def _layer_notices(layers: Sequence[Layer]) -> Iterator[str]:
    for layer in layers:
        if layer.ignored_by_score:
            yield (
                f"the score uses only the tokens next to the cells of {layer.name}, so its map is empty; "
                "choose an earlier layer (`onnxcam layers`)"
            )
    if len(layers) > 1 and all(layer.automatic for layer in layers):
        names = ", ".join(layer.name for layer in layers)
        yield (
            f"no single layer holds all evidence for the score, so the maps of {len(layers)} layers are fused "
            f"({names}); --layer chooses others"
        )


def _plan_automatic(subject: Explained, layers: list[Layer]) -> PlannedModel:
    """The plan at the automatic layers. Instead of a single one, a method that smooths takes the last one whose
    gradient depends on the image, if all operators after it have rules. ModelError if there is none.
    """
    request, model, image, explained = (
        subject.request,
        subject.model,
        subject.image,
        subject.explained,
    )
    chosen = automatic_layers(model, image.name, explained, layers, subject.task)
    if not chosen:
        if not layers and subject.needs_gradient:
            raise_if_blocked(model.graph, image.name, {explained}, RULE_TABLES[request.rules])
        hint = (
            "choose one (`onnxcam layers --all`)" if layers else "there is no spatial layer at all"
        )
        raise ModelError(
            f"{model.name}: no spatial layer lies on all paths from {image.name!r} to {explained!r}; {hint}"
        )
    last = _plan_places(subject, _mark_automatic(chosen))
    if len(chosen) > 1 or not (subject.smooths and last.plan.gradient_is_constant):
        return last
    earlier = _last_varying_layer(subject, candidates(model, layers)[1:])
    return last if earlier is None else _plan_places(subject, _mark_automatic([earlier]))


def _mark_automatic(layers: Sequence[Layer]) -> list[Layer]:
    return [replace(layer, automatic=True) for layer in layers]


def _last_varying_layer(subject: Explained, layers: Sequence[Layer]) -> Layer | None:
    """The first of these candidates whose gradient depends on the image, None if there is none. The gradients
    of 1, 2, 4, … layers are written together or, if a rule is missing for one of them, one by one.
    """
    step, growth = 1, 2
    while layers:
        group = layers[:step]
        names = [layer.name for layer in group]
        try:
            augmented = gradient(subject.model, names, subject.explained, subject.request.rules)
        except (MissingRuleError, ModelError):  # ModelError: integers stop gradients
            if step == 1:
                return None
            step = growth = 1
            continue
        tensors = augmented.graph.tensors()
        for layer in group:
            if depends_on(tensors[gradient_at(layer.name)], {subject.image.name}):
                return layer
        layers, step = layers[step:], step * growth
    return None


@reports_node
def layers(model: Model, output: str | None = None, head: HeadChoice = NO_CHOICE) -> list[Layer]:
    """The spatial layers of a model in the graph's order; those that "auto" selects are marked."""
    image = image_input(model)
    model, score, _, task, _ = with_dense_scores(model, output, head)
    spatial = spatial_layers(model, image.name, score.logits)
    automatic = automatic_layers(model, image.name, score.logits, spatial, task)
    chosen = {layer.name for layer in automatic}
    smoothing = next(m for m in METHODS.values() if m.sampler.smooths and m.has_layer)
    request = replace(smoothing.plan_request(AUTO, output), head=head)
    subject = Explained(request, model, image, score, score.logits, task=task)
    for_smoothing = _automatic_names(subject, spatial) if chosen else set()
    return [
        replace(
            layer,
            automatic=layer.name in chosen,
            auto_for_smoothing=layer.name in for_smoothing,
        )
        for layer in spatial
    ]


def _automatic_names(subject: Explained, spatial: list[Layer]) -> set[str]:
    """The names of the layers that "auto" selects; empty if no gradient reaches them."""
    try:
        planned = _plan_automatic(subject, spatial)
    except (BlockedError, MissingRuleError):
        return set()
    return {layer.name for layer in planned.plan.layers}
