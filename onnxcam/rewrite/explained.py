"""What a request explains of a model: its score, which is added to the model where it has none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from onnxcam.arrays import is_integer
from onnxcam.dense import Dense
from onnxcam.errors import ModelError
from onnxcam.heads.dense_score import ensure_class_scores
from onnxcam.heads.first_output import first_output
from onnxcam.heads.positions import with_dense_scores
from onnxcam.methods.place import IMAGE, LAYER, Place
from onnxcam.methods.quantities import QUANTITIES, TARGET, Quantity, differentiates_image
from onnxcam.model.image_input import image_input
from onnxcam.model.load import upgrade_model
from onnxcam.model.model import Model
from onnxcam.rewrite.automatic_layers import task_at_positions
from onnxcam.rewrite.float_image import image_dtype, with_float_image
from onnxcam.rewrite.places import find_places
from onnxcam.rewrite.probability import probability_notices, require_probability
from onnxcam.rewrite.programs import Subject
from onnxcam.rewrite.sampled_inputs import ROUND_OPSET
from onnxcam.rewrite.target_scores import add_target_scores
from onnxcam.spatial.layers import spatial_layers
from onnxcam.specs import CLASS_SCORES, ImageInput, PlanRequest, Score


class Explained(NamedTuple):
    """What is planned: a request for a model, its image input and score, the tensor that is explained, and the
    notices that concern only some quantities (see `Plan.source_notices`).
    """

    request: PlanRequest
    model: Model
    image: ImageInput
    score: Score
    explained: str
    notices: tuple[tuple[str, str], ...] = ()
    dense: Dense | None = None
    task: str = ""
    names: tuple[str, ...] = ()

    @property
    def quantities(self) -> list[Quantity]:
        """What the request asks for."""
        return [QUANTITIES[name] for name in self.request.quantities]

    @property
    def needs_gradient(self) -> bool:
        """Whether a gradient is written."""
        return any(quantity.needs_gradient for quantity in self.quantities)

    @property
    def smooths(self) -> bool:
        """Whether samples of the image are averaged at a layer, which only matters where they differ."""
        is_sampled = any(q.is_sampled and q.needs_gradient for q in self.quantities)
        return is_sampled and self.request.at == LAYER


def find_explained(model: Model, request: PlanRequest) -> Explained:
    """What a request explains; the model gets a score, and the input for its image, as they are needed.

    ModelError if there is no image input, or no score for a method that explains one.
    """
    image = image_input(model)
    quantities, notices = [QUANTITIES[name] for name in request.quantities], model.notices
    if differentiates_image(request.quantities, request.at):
        model = with_float_image(model, image)
    is_rounded = request.varies == IMAGE and is_integer(image_dtype(model, image))
    if is_rounded and model.graph.opset < ROUND_OPSET:
        model = upgrade_model(model, ROUND_OPSET)
    if request.target:
        model, score = add_target_scores(
            model, request.target, request.head.scores or request.output
        )
        return Explained(request, model, image, score, score.logits)
    try:
        if any(quantity.needs_target for quantity in quantities):
            model, score, dense, task, names = with_dense_scores(
                model, request.output, request.head
            )
        else:  # notices about the scores concern only methods that explain them
            scored, score = ensure_class_scores(model, request.output)
            has_positions, names = score.logits == CLASS_SCORES, ()
            task = task_at_positions(model, request.output, request.head) if has_positions else ""
            model, dense = replace(scored, notices=model.notices), None
    except ModelError:
        if any(quantity.needs_target for quantity in quantities):
            raise
        score, dense, task, names = first_output(model), None, "", ()
    about_scores = [(TARGET, notice) for notice in model.notices if notice not in notices]
    if request.probability:
        require_probability(model, score)
    about = [*about_scores, *probability_notices(score, quantities)]
    model = replace(
        model, notices=tuple(dict.fromkeys([*model.notices, *(notice for _, notice in about)]))
    )
    explained = score.output if request.probability else score.logits
    return Explained(request, model, image, score, explained, tuple(about), dense, task, names)


def subject_at(model: Model, request: PlanRequest, layers: Sequence[str]) -> tuple[Model, Subject]:
    """The model with what a request explains, and what its programs would compute at the layers of these exact
    names; for graphs that are not divided into programs.
    """
    subject = find_explained(model, request)
    model, image, score, explained = subject[1:5]
    if request.at == LAYER:
        spatial = {layer.name: layer for layer in spatial_layers(model, image.name, explained)}
        places = [Place(name, spatial[name].channel_axis) for name in layers]
    elif request.at == IMAGE:
        places = [Place(image.name, image.as_layer().channel_axis)]
    else:
        model, places = find_places(model, image.name, explained, request.at)
    rules, varies, quantities = request.rules, request.varies, subject.quantities
    return model, Subject(
        image.name, image.batch, score, explained, rules, quantities, places, varies
    )
