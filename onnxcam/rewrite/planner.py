"""Turn a model and a request into the model that is run: choose the layers and expose their tensors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from onnxcam.arrays import is_integer
from onnxcam.autodiff.backward import raise_if_blocked
from onnxcam.autodiff.tables import RULE_TABLES
from onnxcam.errors import BlockedError, MissingRuleError, ModelError, UnknownNameError
from onnxcam.graph.node_errors import reports_node
from onnxcam.graph.reachability import depends_on
from onnxcam.heads.dense_score import ensure_class_scores
from onnxcam.methods import DEFAULT_METHOD, METHODS
from onnxcam.model.image_input import image_input
from onnxcam.model.load import upgrade_model
from onnxcam.model.model import Model
from onnxcam.model.training_mode import training_notices
from onnxcam.rewrite.constant_gradient import prune_outputs, split_constant_gradient
from onnxcam.rewrite.gradient import gradient
from onnxcam.rewrite.hints import add_hint
from onnxcam.rewrite.sampled_inputs import ROUND_OPSET, add_noise
from onnxcam.rewrite.sampled_outputs import add_moments
from onnxcam.spatial.layer_names import find_layers
from onnxcam.spatial.layers import candidates, choose_layers, spatial_layers
from onnxcam.specs import (
    AUTO,
    CLASS_SCORES,
    POWERS,
    SEED,
    ImageInput,
    Layer,
    Plan,
    PlanRequest,
    Score,
    gradient_at,
    moment,
)


class PlannedModel(NamedTuple):
    """A plan, the model to run, and a second model with the gradients if they do not depend on the image."""

    plan: Plan
    model: Model
    gradients: Model | None


class _Subject(NamedTuple):
    """What is planned: a request for a model, its image input and score, and the tensor that is explained."""

    request: PlanRequest
    model: Model
    image: ImageInput
    score: Score
    explained: str


@reports_node
def plan(model: Model, request: PlanRequest) -> PlannedModel:
    """How to run a request, and what is run. Nothing but the arguments may affect the result: they are the key
    of the cache.

    Raises UnknownNameError for an unknown layer, MissingRuleError, and ModelError if the model has no image
    input, no score, or no layer.
    """
    image = image_input(model)
    model, score = ensure_class_scores(model, request.output)
    if request.probability:
        _require_probability(model, score)
    explained = score.output if request.probability else score.logits
    subject = _Subject(request, model, image, score, explained)
    layers = spatial_layers(model, image.name, explained)
    if not request.layers:
        raise UnknownNameError("no layer was named; name at least one, or use auto")
    try:
        if request.layers == (AUTO,):
            return _plan_automatic(subject, layers)
        return _plan_layers(subject, find_layers(layers, request.layers))
    except (BlockedError, MissingRuleError) as error:
        table = RULE_TABLES[request.rules]
        raise add_hint(error, model, image.name, explained, table) from error


def _require_probability(model: Model, score: Score) -> None:
    """ModelError for a score that is not, and does not become, a probability."""
    if score.probability or score.output_activation in ("Softmax", "Sigmoid"):
        return
    reason = (
        "its scores are the mean or maximum over pixels or boxes, which are not probabilities"
        if score.output == CLASS_SCORES
        else f"{score.output!r} does not end in Softmax or Sigmoid, so it is not a probability"
    )
    raise ModelError(f"{model.name}: {reason}; explain the logit instead (--score logit)")


def _plan_layers(subject: _Subject, layers: Sequence[Layer]) -> PlannedModel:
    request, model, image, score, explained = subject
    if request.smooths and is_integer(image.dtype) and model.graph.opset < ROUND_OPSET:
        model = upgrade_model(model, ROUND_OPSET)
    names = [layer.name for layer in layers]
    augmented = gradient(model, names, explained, request.rules)
    tensors = augmented.graph.tensors()
    seed, gradients = tensors[SEED], [gradient_at(name) for name in names]
    is_constant = not any(depends_on(tensors[name], {image.name}) for name in gradients)
    outputs = gradients
    if request.smooths and not is_constant:
        add_moments(augmented.graph, names)
        outputs = [moment(power, name) for name in names for power in POWERS]
    prune_outputs(augmented, [explained, *names, *outputs])
    gradient_model = split_constant_gradient(augmented, gradients) if is_constant else None
    if request.smooths:
        add_noise(augmented.graph, image.name)
    planned = Plan(
        name=augmented.name,
        digest=augmented.digest,
        metadata=augmented.metadata,
        notices=(*augmented.notices, *_layer_notices(layers), *training_notices(augmented.graph)),
        image=image,
        score=score,
        explained_tensor=explained,
        layers=tuple(layers),
        gradient_is_constant=is_constant,
        has_gradient_model=gradient_model is not None,
        seed_shape=tuple(dim if isinstance(dim, int) else 1 for dim in seed.shape[1:]),
        seed_dtype=np.dtype(seed.dtype).name,
        inputs=augmented.inputs,
    )
    return PlannedModel(planned, augmented, gradient_model)


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
            f"no single layer depends on the entire image, so the maps of {len(layers)} layers are fused, the "
            f"last of each branch ({names})"
        )


def _plan_automatic(subject: _Subject, layers: list[Layer]) -> PlannedModel:
    """At the last layer that everything passes through. A method that smooths takes the last one whose gradient
    depends on the image, if there is one and all operators after it have rules. If branches meet only after the
    last grid, it is the last layer of each branch. ModelError if there are none of these.
    """
    request, model, image, _, explained = subject
    chosen = choose_layers(model, image.name, explained, layers)
    if not chosen:
        if not layers:
            raise_if_blocked(model.graph, image.name, {explained}, RULE_TABLES[request.rules])
        hint = (
            "choose one (`onnxcam layers --all`)" if layers else "there is no spatial layer at all"
        )
        raise ModelError(
            f"{model.name}: no spatial layer lies on all paths from {image.name!r} to {explained!r}; {hint}"
        )
    last = _plan_layers(subject, _mark_automatic(chosen))
    if len(chosen) > 1 or not (request.smooths and last.plan.gradient_is_constant):
        return last
    earlier = _last_varying_layer(subject, candidates(model, layers)[1:])
    return last if earlier is None else _plan_layers(subject, _mark_automatic([earlier]))


def _mark_automatic(layers: Sequence[Layer]) -> list[Layer]:
    return [replace(layer, automatic=True) for layer in layers]


def _last_varying_layer(subject: _Subject, layers: Sequence[Layer]) -> Layer | None:
    """The first of these candidates whose gradient depends on the image, None if there is none. The gradients
    of 1, 2, 4, … layers are written together; if a rule is missing for one of them, one by one.
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
def layers(model: Model, output: str | None = None) -> list[Layer]:
    """The spatial layers of a model in the graph's order; those that "auto" selects are marked."""
    image = image_input(model)
    model, score = ensure_class_scores(model, output)
    spatial = spatial_layers(model, image.name, score.logits)
    chosen = {layer.name for layer in choose_layers(model, image.name, score.logits, spatial)}
    request = METHODS[DEFAULT_METHOD].plan_request(AUTO, output)
    subject = _Subject(request, model, image, score, score.logits)
    for_smoothing = _automatic_names(subject, spatial) if chosen else set()
    return [
        replace(
            layer,
            automatic=layer.name in chosen,
            auto_for_smoothing=layer.name in for_smoothing,
        )
        for layer in spatial
    ]


def _automatic_names(subject: _Subject, spatial: list[Layer]) -> set[str]:
    """The names of the layers that "auto" selects; empty if no gradient reaches them."""
    try:
        planned = _plan_automatic(subject, spatial)
    except (BlockedError, MissingRuleError):
        return set()
    return {layer.name for layer in planned.plan.layers}
