"""Plan the pass that only asks a model for its scores at all positions."""

from __future__ import annotations

from typing import NamedTuple

from onnxcam.dense import DENSE, WHERE
from onnxcam.errors import ModelError
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
    """The plan of a model with scores at positions that returns them as the explained tensor, and the tensors
    of its boxes beside it. ModelError for a model without such scores.
    """
    image = image_input(model)
    model, score, dense = with_dense_scores(model, request.output)
    if dense is None:
        raise ModelError(f"{model.name}: {score.output!r} has one score per class, at no positions")
    boxes = dense.boxes.tensors if dense.boxes else ()
    tensors, names = model.graph.tensors(), list(dict.fromkeys((DENSE, *boxes)))
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
        score=Score(DENSE, DENSE, None, 1),
        explained_tensor=DENSE,
        layers=(image.as_layer(),),
        clean=nothing,
        constant=nothing,
        sampled=nothing,
        constant_sampled=nothing,
        seed_shape=(1,),
        seed_dtype="float32",
        epsilon=EPSILON,
        beside=boxes,
        inputs=model.inputs,
        dense=dense,
    )
    return PlannedModel(planned, {MODEL: model})
