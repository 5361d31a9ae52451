"""Read the target of an embedded explanation: what is known before an image is seen."""

from __future__ import annotations

import re

import numpy as np

from onnxcam.arrays import Floats
from onnxcam.dense import SEQUENCE, Dense
from onnxcam.embedding.target import EmbeddedTarget
from onnxcam.errors import TargetError
from onnxcam.explain.explainer import Explainer
from onnxcam.explain.read_target import TargetReader
from onnxcam.specs import Plan
from onnxcam.targets.classes import Labels, Spec, parse_rank, parse_target
from onnxcam.targets.where.place import DEFAULT_PLACES
from onnxcam.targets.where.read import ALL, require_whole_text, split_place

POSITION = re.compile(r"(?:position|step):\s*(\d{1,9})")


def split_target(spec: Spec, plan: Plan, labels: Labels) -> tuple[Spec, str]:
    """WHAT and WHERE of a target; "" for the place that is chosen for each image.

    TargetError for a place that is found in an image by other means than its scores.
    """
    what, where = split_place(spec, labels)
    if where is None and (plan.dense is None or what != ALL or ALL in (labels or ())):
        _require_place(what, plan)
        return what, ""
    if plan.dense is None:
        raise TargetError(
            f"target {spec!r}: the model has one score per class, and no boxes, pixels or steps to choose "
            "from; name a class alone"
        )
    default = DEFAULT_PLACES[plan.dense.task]
    if where == default:
        _require_place(what, plan)
        return what, ""
    if where is None or not (where == ALL or POSITION.fullmatch(where)):
        raise TargetError(
            f"target {spec!r}: this place depends on the image, so it cannot be embedded; expected a class "
            f"alone (which is explained @{default}), CLASS@all, or the number of a position of the output "
            "(CLASS@position:117, CLASS@step:5)"
        )
    return what, where


def _require_place(what: Spec, plan: Plan) -> None:
    """TargetError for a rank of a text, which has none but the default."""
    is_text = plan.dense is not None and plan.dense.task == SEQUENCE
    if is_text and parse_rank(what) is not None:
        require_whole_text(what)


def weights_at(where: str, positions: int) -> Floats:
    """(positions,): how much the positions count at a place of `split_target`."""
    if where == ALL:
        return np.full(positions, 1 / positions)
    number = POSITION.fullmatch(where)
    index = int(number[1]) if number else positions
    if index >= positions:
        raise TargetError(f"@{where}: expected a number from 0 to {positions - 1}")
    return np.eye(1, positions, index)[0]


def read_embedded_target(spec: Spec, explainer: Explainer, plan: Plan) -> EmbeddedTarget:
    """The target as it is chosen in the graph. TargetError for one that does not exist."""
    reader = TargetReader(explainer.labels, explainer.score_kind == "probability")
    classes, labels, middle = plan.score.classes, explainer.labels, _middle(plan, reader)
    rank = None if plan.target or plan.names else parse_rank(spec)
    if rank is None:
        if plan.dense is None:
            target = reader.read(spec, plan, None)
        else:
            target = parse_target(spec, classes, labels, None, middle)
        return EmbeddedTarget(target.name, 0, target.weights, target.index)
    parse_target(spec, classes, labels, np.zeros(classes), middle)  # whether there is such a rank
    sign = -1 if str(spec).strip().lower().startswith("not") else 1
    has_two_sides = classes == 1 and labels is not None and len(labels) == 2
    return EmbeddedTarget(str(spec), sign * rank, None, 0, has_two_sides, middle)


def _middle(plan: Plan, reader: TargetReader) -> float:
    dense: Dense | None = plan.dense
    return reader.middle(plan) if dense is None else 0.5 * dense.is_probability
