"""What is written into a model, and what the model has for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from onnxcam.arrays import Dim
from onnxcam.dense import Dense
from onnxcam.embedding.draw import Drawing
from onnxcam.embedding.evidence import RoundingRule
from onnxcam.embedding.rounds import ALONE, Rounds
from onnxcam.embedding.target import EmbeddedTarget
from onnxcam.errors import ModelError
from onnxcam.model.model import Model
from onnxcam.rewrite.explained import subject_at
from onnxcam.rewrite.programs import Subject
from onnxcam.specs import Layer, PlanRequest, Score


@dataclass(frozen=True)
class Embedding:
    """What is written into a model.

    Attributes:
        request: what the method asks of the model.
        drawing: the method with its settings, the image input with its size, and what its sampler needs.
        layers: where its quantities are taken.
        target: what is explained.
        takes_target: whether the class is an input of the file.
        score: the tensors with the class scores.
        images, rounds: the size of the batch, a number or a name, and how the samples are run; see
            `choose_rounds`.
        fuse: how the maps of several layers become one.
        dense: the scores at positions, if the model has them.
        where: the place of a target that does not depend on the image; "" to choose it in the graph.
        rounding: which maps are set to 0, because they are only rounding errors; None: none.
    """

    request: PlanRequest
    drawing: Drawing
    layers: Sequence[Layer]
    target: EmbeddedTarget
    takes_target: bool
    score: Score
    images: Dim = 1
    rounds: Rounds = ALONE
    fuse: str = "max"
    dense: Dense | None = None
    where: str = ""
    rounding: RoundingRule | None = None


def find_subject(model: Model, embedding: Embedding) -> tuple[Model, Subject]:
    """What the plan explains, in the model for another number of images, in which outputs may look different.
    ModelError if it is not found there.
    """
    layers, expected = [layer.name for layer in embedding.layers], embedding.score
    outputs = [embedding.request.output]
    if expected.output in model.graph.tensors():
        outputs.append(expected.output)
    for output in outputs:
        request = replace(embedding.request, output=output)
        scored, subject = subject_at(model, request, layers)
        score, needed = subject.score, any(q.needs_target for q in subject.quantities)
        if not needed or (score.logits, score.classes) == (expected.logits, expected.classes):
            return scored, subject
    raise ModelError(
        f"{model.name}: for this number of images, the scores {expected.logits!r} are not found again; leave "
        "out the batch, or name them with --output"
    )
