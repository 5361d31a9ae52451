"""Read a target `WHAT[@WHERE]` for one image of a model with scores at positions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from onnxcam.dense import DETECTION, IMAGE, SEGMENTATION, SEQUENCE
from onnxcam.errors import OnnxcamError, PlaceError, TargetError
from onnxcam.targets.classes import DEFAULT_TARGET, Labels, Side, Spec, parse_rank, parse_target
from onnxcam.targets.target import Target
from onnxcam.targets.where.detections import ranked
from onnxcam.targets.where.pixels import areas, winning
from onnxcam.targets.where.place import DEFAULT_PLACES, DenseView, Place, Selection, find_place
from onnxcam.targets.where.steps import decode

ALL = "all"
FILE_PLACE = "@mask:"  # what follows it is taken to the end
SMALLEST_SHARE = 0.001  # of the pixels, for a region of its own


def split_place(spec: Spec, labels: Labels) -> tuple[Spec, str | None]:
    """WHAT and WHERE of a target; WHERE is None without one. An exact label is not divided."""
    if not isinstance(spec, str) or spec in (labels or ()) or "@" not in spec:
        return spec, None
    what, at_file, file = spec.partition(FILE_PLACE)
    where = f"{FILE_PLACE[1:]}{file}"
    if not at_file:
        what, _, where = spec.rpartition("@")
    return what.strip() or DEFAULT_TARGET, where.strip()


def files_of(spec: str) -> list[Path]:
    """The files that a target names: what it explains depends on them."""
    names = (spec.partition(word)[2].strip() for word in (FILE_PLACE, "similar:"))
    return [Path(name) for name in names if name]


def read_target(spec: Spec, view: DenseView) -> Target:
    """The target. TargetError for a class or place that does not exist."""
    require_positions(view)
    what, where = split_place(spec, view.labels)
    if what == ALL and ALL not in (view.labels or ()):
        raise TargetError(
            f"target {spec!r} stands for several targets of an image; name one of them, or explain them all "
            "with `onnxcam explain`"
        )
    place, groups = find_place(where or DEFAULT_PLACES[view.dense.task], view.dense.task)
    groups = {name: text for name, text in groups.items() if text is not None}
    try:
        return _read(what, where, place, groups, view)
    except TargetError as error:
        text = str(error).removeprefix(f"target {what!r}: ")
        raise type(error)(f"target {str(spec)!r}: {text}") from None


def _read(
    what: Spec,
    where: str | None,
    place: Place,
    groups: dict[str, str],
    view: DenseView,
) -> Target:
    if parse_rank(what) is None or place.rank is not None:
        scores = place.rank(view) if place.rank else None
        target = parse_target(what, view.classes, view.labels, scores, view.middle)
        return _placed(target, place.select(view, _side(target), **groups), view, where)
    selection = place.select(view, None, **groups)
    if selection.name is not None:
        return _text_target(selection, view, what)
    scores = np.sum(view.scores * selection.weights, axis=1)
    if view.dense.task == DETECTION:
        scores = view.without_background(scores)
    target = parse_target(what, view.classes, view.labels, scores, view.middle)
    if where and place.respell:
        where = place.respell(view, _side(target), selection)
    return _placed(target, selection, view, where)


def _side(target: Target) -> Side:
    return Side(target.index, int(np.sign(target.weights[target.index])))


def require_whole_text(what: Spec) -> None:
    """TargetError for another rank than the default, which is the text."""
    if str(what).strip().lower() != DEFAULT_TARGET:
        raise TargetError(
            f"target {what!r}: the text has no rank; name a class, or a step (top2@step:5)"
        )


def _text_target(selection: Selection, view: DenseView, what: Spec) -> Target:
    """All characters that were read, each with its own class."""
    require_whole_text(what)
    return Target(
        str(selection.name),
        np.ones(view.classes),
        -1,
        DEFAULT_TARGET,
        where=selection.weights,
        notices=selection.notices,
    )


def _placed(target: Target, selection: Selection, view: DenseView, where: str | None) -> Target:
    """The target at the selected positions."""
    return replace(
        target,
        spec=f"{target.spec}@{where}" if where else target.spec,
        where=selection.weights,
        mark=selection.mark,
        probability=_probability(target, selection, view),
        notices=tuple(f"{target.name}: {notice}" for notice in selection.notices),
    )


def _probability(target: Target, selection: Selection, view: DenseView) -> float | None:
    """The mean probability of a single class; None for a contrast, and for scores that are no probabilities."""
    indices = np.flatnonzero(target.weights)
    if len(indices) != 1 or not (view.dense.is_probability or view.dense.activation):
        return None
    mean = float(np.sum(view.probabilities[indices[0]] * selection.weights[0]))
    return mean if target.weights[indices[0]] > 0 else 1 - mean


def require_positions(view: DenseView) -> None:
    """PlaceError if the model detects nothing at all in an image."""
    if not view.positions:
        raise PlaceError("the model detects nothing in this image, so there is nothing to explain")


def list_targets(view: DenseView, least: float, most: int) -> list[str]:
    """A target for every detection, region, or character whose probability is at least `least`: at most `most`
    of them, the surest, largest, or first ones.
    """
    require_positions(view)
    return [text for text, score in LISTS[view.dense.task](view) if score >= least][:most]


def _class_text(view: DenseView, index: int) -> str:
    """The label of a class, if it alone selects the class; otherwise its number."""
    label = view.labels[index] if view.labels and index < len(view.labels) else ""
    try:
        is_enough = parse_target(label, view.classes, view.labels, None).weights[index] > 0
    except OnnxcamError:
        is_enough = False
    return label if is_enough and "@" not in label else f"class:{index}"


def _list_detections(view: DenseView) -> Iterator[tuple[str, float]]:
    of_class: dict[int, list[int]] = {}
    for position in ranked(view, None).tolist():
        scores = view.without_background(view.probabilities[:, position])
        index = int(scores.argmax())
        if index not in of_class:
            of_class[index] = ranked(view, Side(index)).tolist()
        if position in of_class[index]:
            number = of_class[index].index(position) + 1
            yield f"{_class_text(view, index)}@box:{number}", float(scores[index])


def _list_regions(view: DenseView) -> Iterator[tuple[str, float]]:
    shares = areas(view) / view.positions
    for index in np.argsort(-shares, kind="stable").tolist():
        if shares[index] > SMALLEST_SHARE:
            wins = winning(view, Side(index))
            yield (
                f"{_class_text(view, index)}@segment",
                float(view.probabilities[index][wins].mean()),
            )


def _list_characters(view: DenseView) -> Iterator[tuple[str, float]]:
    for character in decode(view):
        scores = view.probabilities[character.number][character.steps]
        yield (
            f"{_class_text(view, character.number)}@step:{character.steps[scores.argmax()]}",
            float(scores.max()),
        )


LISTS: dict[str, Callable[[DenseView], Iterator[tuple[str, float]]]] = {
    DETECTION: _list_detections,
    SEGMENTATION: _list_regions,
    SEQUENCE: _list_characters,
    IMAGE: lambda _: iter([(DEFAULT_TARGET, np.inf)]),
}
