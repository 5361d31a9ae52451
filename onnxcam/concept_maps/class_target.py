"""The class, or contrast of classes, of which concepts and additive models of many images tell the scores."""

from __future__ import annotations

import numpy as np

from onnxcam.arrays import Scores
from onnxcam.concept_maps.source import ConceptSource
from onnxcam.errors import SettingError, TargetError
from onnxcam.explain.read_target import TargetReader, kind_of
from onnxcam.targets.classes import DEFAULT_TARGET, Spec, parse_rank
from onnxcam.targets.target import Target


def read_class(source: ConceptSource, spec: Spec, purpose: str) -> Target | None:
    """The target, the same for all images; None for "top1", the default.

    SettingError for a model with scores at positions; TargetError for a target that does not exist, is no
    class, or depends on the image. `purpose` says in these what needs a class.
    """
    explainer = source.activations
    if source.tail.plan.dense is not None:
        raise SettingError(
            f"{purpose} needs a model with one score per class, not one with scores at positions"
        )
    if spec == DEFAULT_TARGET:
        return None
    if parse_rank(spec) is not None:
        raise TargetError(
            f"target {spec!r}: {purpose} is of one class for all images, but which class that is depends on "
            "the image; name a class"
        )
    if kind_of(spec, explainer.labels):
        raise TargetError(f"target {spec!r}: {purpose} is of a class; name one")
    return TargetReader(explainer.labels).read(spec, explainer.plan, None)


def most_frequent_class(source: ConceptSource, scores: Scores) -> Target:
    """The class that is first on most of the images with these scores (N, classes)."""
    explainer = source.activations
    spec: Spec = DEFAULT_TARGET
    if scores.shape[1] > 1:
        spec = int(np.bincount(scores.argmax(axis=1), minlength=scores.shape[1]).argmax())
    return TargetReader(explainer.labels).read(spec, explainer.plan, scores[0])
