"""What a model says about one image under each plausible preprocessing, so that a wrong one is seen."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from onnxcam.arrays import Floats
from onnxcam.dense import DETECTION, SEGMENTATION
from onnxcam.errors import RunError, SettingError, one_line
from onnxcam.explain.answers import Answers
from onnxcam.explain.explanation import ExplainedImage
from onnxcam.explain.inputs import PreparedInput
from onnxcam.explain.probabilities import softmax, target_probability
from onnxcam.explain.read_target import TargetReader
from onnxcam.explain.run import Runner
from onnxcam.heads.tasks.task import EMBEDDING, REGRESSION
from onnxcam.image.preprocess import (
    PRESETS,
    Preprocessing,
    prepare,
    tensor_size,
    to_dict,
    with_overrides,
)
from onnxcam.specs import ImageInput
from onnxcam.targets.classes import parse_target
from onnxcam.targets.where.read import list_targets, read_target

TOP = 5  # answers that are shown


class Candidate(NamedTuple):
    """A preprocessing, and the options that choose it."""

    options: str
    preprocessing: Preprocessing


class Answer(NamedTuple):
    """A class, detection, region, or text, with its score, and its probability if the model has one."""

    name: str
    score: float
    probability: float | None


@dataclass(frozen=True)
class Outcome:
    """What a model says under a candidate, the best answers first.

    is_default: whether `explain` prepares images this way if it is told nothing else.
    confidence: the probability of the best answer; of logits of classes without probabilities, that after a
        Softmax, and for a segmenter its mean over the pixels. None for other scores.
    error: why the model says nothing.
    """

    candidate: Candidate
    is_default: bool
    answers: tuple[Answer, ...] = ()
    confidence: float | None = None
    error: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The outcome as JSON values."""
        return {
            "options": self.candidate.options,
            "preprocessing": to_dict(self.candidate.preprocessing),
            "is_default": self.is_default,
            "confidence": self.confidence,
            "answers": [answer._asdict() for answer in self.answers],
            "error": self.error,
        }


def candidates(takes: ImageInput, default: Preprocessing, *, keeps_image: bool) -> list[Candidate]:
    """The presets in both orders of the channels, at the size of the `default`, which comes first if it is none
    of them. Detectors (`keeps_image`) see the full image in its proportions; models of integers get pixels.
    """
    height, width = tensor_size(default, takes)
    size = None if None not in (takes.height, takes.width) else (height, width)
    listed = []
    is_integer = takes.dtype.kind in "iu"
    for name, preset in {"raw": PRESETS["raw"]}.items() if is_integer else PRESETS.items():
        for order in dict.fromkeys((preset.order, "rgb", "bgr")):
            fit = "letterbox" if keeps_image else preset.fit
            changed = with_overrides(preset, size=size, order=order, fit=fit)
            options = [f"--preprocess {name}"]
            options += [f"--order {order}"] if order != preset.order else []
            options += [f"--fit {fit}"] if fit != preset.fit else []
            listed.append(Candidate(" ".join(options), changed))
            if takes.channels == 1:
                break
    if default in [candidate.preprocessing for candidate in listed]:
        return listed
    of_presets = (name for name in PRESETS if with_overrides(PRESETS[name], size=size) == default)
    name = next(of_presets, "auto")
    return [Candidate(f"--preprocess {name}", default), *listed]


def try_presets(
    runner: Runner, labels: tuple[str, ...] | None, image: Image.Image, default: Preprocessing
) -> Iterator[Outcome]:
    """What the model says under each candidate; those that the model cannot take are left out.

    `runner` runs a request for answers, without gradients. SettingError if the model takes no images of
    1 or 3 channels.
    """
    takes, dense = runner.plan.image, runner.plan.dense
    keeps_image = dense is not None and dense.task == DETECTION
    for candidate in candidates(takes, default, keeps_image=keeps_image):
        is_default = candidate.preprocessing == default
        try:
            prepared = prepare(image, candidate.preprocessing, takes)
        except SettingError:
            if is_default:
                raise
            continue
        shown = ExplainedImage("image", lambda: image, prepared.box)
        yield _try(runner, labels, candidate, is_default, prepared.tensor, shown)


def try_array(
    runner: Runner, labels: tuple[str, ...] | None, array: PreparedInput, default: Preprocessing
) -> Outcome:
    """What the model says about an array that is preprocessed already."""
    candidate = Candidate("nothing: the array is preprocessed", default)
    return _try(runner, labels, candidate, True, array.tensor, array.image)


def _try(
    runner: Runner,
    labels: tuple[str, ...] | None,
    candidate: Candidate,
    is_default: bool,
    tensor: Any,
    shown: ExplainedImage,
) -> Outcome:
    cast = np.asarray(tensor).astype(runner.plan.image_dtype, copy=False)
    try:
        answers, confidence = _ask(runner, labels, cast, shown)
    except RunError as error:
        return Outcome(candidate, is_default, error=one_line(error))
    return Outcome(candidate, is_default, answers, confidence)


def _ask(
    runner: Runner, labels: tuple[str, ...] | None, tensor: Any, shown: ExplainedImage
) -> tuple[tuple[Answer, ...], float | None]:
    """The best answers about an image (1, ...), and the confidence in the first."""
    if runner.plan.dense is not None:
        return _ask_at_positions(Answers(runner, labels), tensor, shown)
    plan = runner.plan
    scores = runner.clean(tensor, np.zeros((1, plan.score.classes))).scores
    runner.require_finite_scores(scores)
    if plan.task in (EMBEDDING, REGRESSION):
        return _values(plan.task, labels, scores[0]), None
    middle = TargetReader(labels).middle(plan)
    answers = []
    for rank in range(1, min(TOP, plan.score.classes) + 1):
        target = parse_target(f"top{rank}", plan.score.classes, labels, scores[0], middle)
        score = float(target.score(scores)[0])
        known = target_probability(plan.score, plan.explained_tensor, scores, target)
        probability = score if plan.score.probability else None
        answers.append(
            Answer(target.name, score, probability if known is None else float(known[0]))
        )
    confidence = answers[0].probability
    if confidence is None and plan.score.classes > 1:
        confidence = float(softmax(np.asarray(scores, np.float64)).max())
    return tuple(answers), confidence


def _values(task: str, labels: tuple[str, ...] | None, values: Floats) -> tuple[Answer, ...]:
    """The first numbers of a model without classes, in their order."""
    names = labels or [f"value {number}" for number in range(len(values))]
    names = ("norm of the embedding",) if task == EMBEDDING else names
    return tuple(Answer(*pair, None) for pair in zip(names, values.tolist(), strict=False))[:TOP]


def _ask_at_positions(
    answers: Answers, tensor: Any, shown: ExplainedImage
) -> tuple[tuple[Answer, ...], float | None]:
    """The same for a model with scores at boxes, pixels, or steps."""
    (view,) = answers.views(tensor, [shown])
    listed = []
    for spec in list_targets(view, -np.inf, TOP):
        target = read_target(spec, view)
        where = np.ones((1, view.positions)) if target.where is None else target.where
        score = float(np.sum(view.scores * where * target.weights[:, np.newaxis]))
        listed.append(Answer(target.name, score, target.probability))
    confidence = listed[0].probability if listed else None
    if view.dense.task == SEGMENTATION and confidence is None and view.classes > 1:
        confidence = float(softmax(np.asarray(view.scores.T, np.float64)).max(axis=1).mean())
    return tuple(listed), confidence
