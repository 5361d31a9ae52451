"""Read targets as users write them, for a model, its labels, and the scores of an image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from onnxcam.arrays import Array, Floats, Scores
from onnxcam.errors import TargetError
from onnxcam.specs import Plan
from onnxcam.targets import Target, find_kind
from onnxcam.targets.classes import DEFAULT_TARGET, Labels, Spec, parse_rank, parse_target
from onnxcam.targets.kind import REFERENCE
from onnxcam.targets.where.read import ALL, split_place


def kind_of(spec: Spec, labels: Labels) -> tuple[str, ...]:
    """The kind of a target and what its expression depends on; empty for a class. An exact label is a class."""
    matched = None if spec in (labels or ()) else find_kind(spec)
    if matched is None:
        return ()
    kind, match = matched
    return (kind.name, *kind.arguments(match))


def of_values(spec: Spec, plan: Plan) -> Spec:
    """The target of scores that are no classes, and have no rank: the first one instead of the best one."""
    return 0 if plan.names and spec == DEFAULT_TARGET else spec


def _no_reference(path: str) -> Floats:
    raise TargetError(f"{path} cannot be compared with here")


@dataclass(frozen=True)
class TargetReader:
    """Reads targets. `is_probability`: whether probabilities are explained instead of logits; `reference`
    returns the numbers that a file stands for.
    """

    labels: Labels
    is_probability: bool = False
    reference: Callable[[str], Floats] = _no_reference

    def weights_and_ranks(
        self, specs: Sequence[Spec], plan: Plan, *, ranks_classes: bool
    ) -> tuple[Floats, Array, bool]:
        """What is known before the scores are: the weights (N, classes) of fixed targets, and the ranks (N,)
        that the model finds itself, negative for the evidence against a class; and whether
        that determines all targets.
        """
        classes = plan.score.classes
        weights, ranks = np.zeros((len(specs), classes)), np.zeros(len(specs), np.int64)
        is_complete = True
        for number, spec in enumerate(specs):
            rank = None if plan.target else parse_rank(of_values(spec, plan))
            if rank is None:
                weights[number] = self.read(spec, plan, None).weights
            elif ranks_classes and 1 <= rank <= classes:
                is_against = str(spec).strip().lower().startswith("not")
                ranks[number] = -rank if is_against else rank
            else:
                is_complete = False
        return weights, ranks, is_complete

    def read(self, spec: Spec, plan: Plan, scores: Floats | None) -> Target:
        """The target; `scores` (classes,) are needed for ranks. TargetError if it does not exist."""
        matched = find_kind(spec) if plan.target else None
        if matched is not None:
            kind, match = matched
            compared = [self.reference(match[REFERENCE].strip())] if kind.compares else []
            return kind.select(match, plan.seed_shape, *compared)
        _, place = split_place(spec, self.labels)
        if place is not None or (spec == ALL and ALL not in (self.labels or ())):
            raise TargetError(
                f"target {spec!r}: the model has one score per class, and no boxes, pixels or steps to choose "
                "from; name a class alone"
            )
        spec = of_values(spec, plan)
        return parse_target(spec, plan.score.classes, self.labels, scores, self.middle(plan))

    def middle(self, plan: Plan) -> float:
        """What divides the two sides of a single score."""
        return 0.5 if self.is_probability or plan.score.probability else 0.0

    def read_all(self, specs: Sequence[Spec], plan: Plan, scores: Scores) -> list[Target]:
        """The target of each image, whose scores are (N, classes)."""
        return [self.read(spec, plan, row) for spec, row in zip(specs, scores, strict=True)]
