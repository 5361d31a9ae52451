"""From a model and a method to the model that is run: which tensors are exposed, and the layer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple, Protocol

import numpy as np

from onnxcam.arrays import is_integer
from onnxcam.autodiff.backward import raise_if_blocked
from onnxcam.autodiff.rules import RULE_TABLES
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
from onnxcam.rewrite.hints import add_cure
from onnxcam.rewrite.sampled_inputs import ROUNDS, add_noise
from onnxcam.rewrite.sampled_outputs import add_moments
from onnxcam.spatial.layers import candidates, choose_layers, find_layer, spatial_layers
from onnxcam.specs import (
    AUTO,
    CLASS_SCORES,
    POWERS,
    SEED,
    ImageInput,
    Layer,
    Plan,
    Score,
    gradient_at,
    moment,
)


class Needs(Protocol):
    """Everything about a method that a plan may depend on: it is part of the cache key (`ready.Asked`)."""

    @property
    def rules(self) -> str:
        """The name of a table of gradient rules."""

    @property
    def smooths(self) -> bool:
        """Whether noisy samples are taken."""


class Planned(NamedTuple):
    """What to run, the model, and the one that its gradients have for themselves, where they do."""

    plan: Plan
    model: Model
    gradients: Model | None


@reports_node
def plan(
    model: Model,
    recipe: Needs,
    wanted: str | Sequence[str] = AUTO,
    output: str | None = None,
    *,
    probability: bool = False,
) -> Planned:
    """How to run `recipe` at the wanted layer or layers ("auto", names), and what is run.

    Raises UnknownNameError for a layer that is not there, MissingRuleError, and ModelError where the
    model has no picture input, no score, or no layer.
    """
    image = image_input(model)
    model, score = ensure_class_scores(model, output)
    if (
        probability
        and not score.probability
        and score.output_activation not in ("Softmax", "Sigmoid")
    ):
        why = (
            "its scores are the mean or maximum over pixels or boxes, which are not probabilities"
            if score.output == CLASS_SCORES
            else f"{score.output!r} does not end in Softmax or Sigmoid, so it gives no probability"
        )
        raise ModelError(f"{model.name}: {why}; explain the logit instead (--score logit)")
    of = score.output if probability else score.logits
    layers = spatial_layers(model, image.name, of)
    names = [wanted] if isinstance(wanted, str) else list(wanted)
    if not names:
        raise UnknownNameError("no layer was named; name one, or take auto")
    try:
        if names == [AUTO]:
            return _automatic(model, recipe, image, score, of, layers)
        chosen = tuple(find_layer(layers, name) for name in dict.fromkeys(names))
        return _planned(model, recipe, image, score, of, chosen)
    except (BlockedError, MissingRuleError) as error:
        raise add_cure(error, model, image.name, of, RULE_TABLES[recipe.rules]) from error


def _planned(
    model: Model,
    recipe: Needs,
    image: ImageInput,
    score: Score,
    of: str,
    chosen: tuple[Layer, ...],
) -> Planned:
    if recipe.smooths and is_integer(image.dtype) and model.graph.opset < ROUNDS:
        model = upgrade_model(model, ROUNDS)
    names = [each.name for each in chosen]
    augmented = gradient(model, names, of, recipe.rules)
    tensors = augmented.graph.tensors()
    seed, gradients = tensors[SEED], [gradient_at(each) for each in names]
    constant = not any(depends_on(tensors[each], {image.name}) for each in gradients)
    wanted = gradients
    if recipe.smooths and not constant:
        add_moments(augmented.graph, names)
        wanted = [moment(power, each) for each in names for power in POWERS]
    prune_outputs(augmented, [of, *names, *wanted])
    alone = split_constant_gradient(augmented, gradients) if constant else None
    if recipe.smooths:
        add_noise(augmented.graph, image.name)
    made = Plan(
        name=augmented.name,
        digest=augmented.digest,
        metadata=augmented.metadata,
        notices=(*augmented.notices, *_notices(chosen), *training_notices(augmented.graph)),
        image=image,
        score=score,
        explained_tensor=of,
        layers=chosen,
        gradient_is_constant=constant,
        has_gradient_model=alone is not None,
        seed_shape=tuple(dim if isinstance(dim, int) else 1 for dim in seed.shape[1:]),
        seed_dtype=np.dtype(seed.dtype).name,
    )
    return Planned(made, augmented, alone)


def _notices(chosen: tuple[Layer, ...]) -> Iterator[str]:
    for each in chosen:
        if each.ignored_by_score:
            yield (
                f"the score reads no cell of {each.name}, only tokens beside them: its map is empty; "
                "choose an earlier layer (`onnxcam layers`)"
            )
    if len(chosen) > 1 and all(each.automatic for each in chosen):
        yield (
            f"no one layer sees everything: the maps of {len(chosen)} are fused, the last of each branch "
            f"({', '.join(each.name for each in chosen)})"
        )


def _automatic(
    model: Model, recipe: Needs, image: ImageInput, score: Score, of: str, layers: list[Layer]
) -> Planned:
    """The last layer that everything passes through; for a method that smooths, the last one whose gradient
    depends on the picture, where there is one and the rules reach it. Or the last layers of several
    branches. ModelError if there is none of these either.
    """
    chosen = choose_layers(model, image.name, of, layers)
    if not chosen:
        if not layers:
            raise_if_blocked(model.graph, image.name, {of}, RULE_TABLES[recipe.rules])
        cure = "choose one (`onnxcam layers --all`)" if layers else "it has no spatial layer at all"
        raise ModelError(
            f"{model.name}: no spatial layer that everything passes through on the way from "
            f"{image.name!r} to {of!r}; {cure}"
        )
    last = _planned(model, recipe, image, score, of, _marked(chosen))
    if len(chosen) > 1 or not (recipe.smooths and last.plan.gradient_is_constant):
        return last
    earlier = _last_varying(model, recipe, image.name, of, candidates(model, layers)[1:])
    if earlier is None:
        return last
    return _planned(model, recipe, image, score, of, _marked([earlier]))


def _marked(layers: list[Layer]) -> tuple[Layer, ...]:
    return tuple(replace(each, automatic=True) for each in layers)


def _last_varying(
    model: Model, recipe: Needs, image: str, of: str, found: list[Layer]
) -> Layer | None:
    """The first of the candidates whose gradient depends on the picture, None if there is none. The gradients
    of 1, 2, 4, … are written together; where a rule is missing for one of them, one after the other.
    """
    step, growth = 1, 2
    while found:
        tried = found[:step]
        try:
            written = gradient(model, [each.name for each in tried], of, recipe.rules)
        except (MissingRuleError, ModelError):  # ModelError: integers, which nothing flows back to
            if step == 1:
                return None
            step = growth = 1
            continue
        tensors = written.graph.tensors()
        for each in tried:
            if depends_on(tensors[gradient_at(each.name)], {image}):
                return each
        found, step = found[step:], step * growth
    return None


@reports_node
def layers(model: Model, output: str | None = None) -> list[Layer]:
    """The spatial layers of a model in the graph's order, the automatic choices marked if there are any."""
    image = image_input(model)
    model, score = ensure_class_scores(model, output)
    found = spatial_layers(model, image.name, score.logits)
    chosen = choose_layers(model, image.name, score.logits, found)
    smooth = _smoothing_choice(model, image, score, found) if chosen else set()
    names = {each.name for each in chosen}
    return [
        replace(each, automatic=each.name in names, auto_for_smoothing=each.name in smooth)
        for each in found
    ]


def _smoothing_choice(
    model: Model, image: ImageInput, score: Score, found: list[Layer]
) -> set[str]:
    recipe = METHODS[DEFAULT_METHOD]
    try:
        planned = _automatic(model, recipe, image, score, score.logits, found)
    except (BlockedError, MissingRuleError):
        return set()
    return {each.name for each in planned.plan.layers}
