"""Plan the pass that only asks a model for its scores, at all positions if it has them there."""

from __future__ import annotations

from typing import NamedTuple

from onnxcam.dense import DENSE, WHERE
from onnxcam.heads.positions import with_dense_scores
from onnxcam.model.image_input import image_input
from onnxcam.model.model import Model
from onnxcam.rewrite.constant_gradient import prune_outputs
from onnxcam.rewrite.float_image import image_dtype
from onnxcam.specs import MODEL, Plan, PlanRequest, Program, Score

EPSILON = 2.0**-23  # of float32


class PlannedModel(NamedTuple):
    """A plan, and the models that it runs, by name."""

    plan: Plan
    models: dict[str, Model]


def plan_answers(model: Model, request: PlanRequest) -> PlannedModel:
    """The plan of a model that only returns its scores, as the explained tensor: at all positions, with the
    tensors of its boxes beside them, or one per class.
    """
    image = image_input(model)
    model, score, dense, task, _ = with_dense_scores(model, request.output, request.head)
    if dense is None:
        model = model.copy()
    else:
        score = Score(DENSE, DENSE, None, dense.classes)
    boxes = dense.boxes.tensors if dense and dense.boxes else ()
    tensors, names = model.graph.tensors(), list(dict.fromkeys((score.logits, *boxes)))
    model.graph.outputs = [tensors[name] for name in names]
    prune_outputs(model, names)
    model.graph.inputs = [tensor for tensor in model.graph.inputs if tensor.name != WHERE]
    nothing = Program(MODEL)
    planned = Plan(
        name=model.name,
        digest=model.digest,
        metadata=model.metadata,
        notices=model.notices,
        image=image,
        image_dtype=image_dtype(model, image).name,
        score=score,
        explained_tensor=score.logits,
        layers=(image.as_layer(),),
        clean=nothing,
        constant=nothing,
        sampled=nothing,
        constant_sampled=nothing,
        seed_shape=(score.classes,),
        seed_dtype="float32",
        epsilon=EPSILON,
        beside=boxes,
        inputs=model.inputs,
        dense=dense,
        task=task,
    )
    return PlannedModel(planned, {MODEL: model})
