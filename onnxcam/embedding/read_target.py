"""Read the target of an embedded explanation: what is known before an image is seen."""

from __future__ import annotations

from functools import partial

import numpy as np

from onnxcam.arrays import Floats
from onnxcam.dense import SEQUENCE, Dense
from onnxcam.embedding.target import EmbeddedTarget
from onnxcam.errors import PlaceError, TargetError
from onnxcam.explain.explainer import Explainer
from onnxcam.explain.read_target import TargetReader, of_values
from onnxcam.explain.references import read_reference
from onnxcam.specs import Plan
from onnxcam.targets.classes import Labels, Spec, parse_rank, parse_target
from onnxcam.targets.where.place import DEFAULT_PLACES, PLACES, find_place
from onnxcam.targets.where.read import ALL, require_whole_text, split_place


def split_target(spec: Spec, plan: Plan, labels: Labels) -> tuple[Spec, str]:
    """WHAT and WHERE of a target; "" for the place that is chosen for each image, and for models without
    places, whose targets are read elsewhere.

    TargetError for a place that the model does not have, or that is found in an image by other means than its
    scores.
    """
    if plan.dense is None:
        return spec, ""
    what, where = split_place(spec, labels)
    if what == ALL and ALL not in (labels or ()):
        raise TargetError(
            f"target {spec!r} stands for several targets of an image, and a file explains one; name a class"
        )
    task = plan.dense.task
    default = DEFAULT_PLACES[task]
    try:
        place, _ = find_place(where or default, task)
    except TargetError as error:
        raise TargetError(f"target {spec!r}: {error}") from None
    if place.name == default:
        _require_place(what, plan)
        return what, ""
    if place.fixed is None or where is None:
        raise TargetError(
            f"target {spec!r}: this place depends on the image, so it cannot be embedded; expected a class "
            f"alone (which is explained @{default}){_fixed_usages(task)}"
        )
    return what, where


def _fixed_usages(task: str) -> str:
    """How places are written that are the same in every image, for the end of a message."""
    places = (place for place in PLACES.values() if place.fixed and task in place.tasks)
    return "".join(f" or CLASS@{place.usage}" for place in places)


def require_classes(spec: Spec, kind: tuple[str, ...]) -> None:
    """TargetError for a target that is no class, of a file whose input `target` takes classes."""
    if kind:
        raise TargetError(
            f"target {spec!r}: a file with the input `target` explains classes; leave out the target, or the "
            "input"
        )


def _require_place(what: Spec, plan: Plan) -> None:
    """TargetError for a rank of a text, which has none but the default."""
    is_text = plan.dense is not None and plan.dense.task == SEQUENCE
    if is_text and parse_rank(what) is not None:
        require_whole_text(what)


def weights_at(where: str, task: str, positions: int) -> Floats:
    """(positions,): how much they count at a place of `split_target`. PlaceError if there are too few."""
    place, groups = find_place(where, task)
    if place.fixed is None:
        raise TargetError(f"@{where}: this place depends on the image, so it cannot be embedded")
    try:
        return place.fixed(positions, **groups)
    except PlaceError as error:
        raise PlaceError(f"target @{where}: {error}") from None


def read_embedded_target(spec: Spec, explainer: Explainer, plan: Plan) -> EmbeddedTarget:
    """The target as it is chosen in the graph. TargetError for one that does not exist."""
    runner = explainer.runner_for(plan.target)
    compare = partial(read_reference, runner=runner, preprocessing=explainer.preprocessing)
    reader = TargetReader(explainer.labels, explainer.score_kind == "probability", compare)
    classes, labels, middle = plan.score.classes, explainer.labels, _middle(plan, reader)
    spec = of_values(spec, plan)
    rank = None if plan.target else parse_rank(spec)
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
