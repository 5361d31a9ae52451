"""What is said of compared maps, in a few words: their cost, what is special, and what they have in common."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from onnxcam.explain.compared_map import ComparedMap
from onnxcam.explain.explanation import Explanation
from onnxcam.explain.probabilities import format_score
from onnxcam.methods import METHODS
from onnxcam.methods.completeness import GAP

SAID = (" is empty, because", "do not add up to it")  # notices that repeat a remark
LONG = 40  # characters of the name of a layer


@dataclass(frozen=True)
class Usual:
    """What maps have in common, which need not be said of each: notices of all of them, and for a target and
    layer, as they were asked for, a map of the layer that most of them explain.
    """

    notices: frozenset[str]
    layers: Mapping[tuple[str, str | None], ComparedMap]


def usual_of(drawn: Sequence[ComparedMap]) -> Usual:
    """What these maps have in common."""
    notices = [frozenset(explanation_of(compared).notices) for compared in drawn]
    columns: dict[tuple[str, str | None], list[ComparedMap]] = {}
    for compared in drawn:
        if METHODS[compared.method].has_layer:
            columns.setdefault((compared.target, compared.layer), []).append(compared)
    return Usual(
        frozenset.intersection(*notices) if len(notices) > 1 else frozenset(),
        {column: _most_common(members) for column, members in columns.items()},
    )


def _most_common(members: Sequence[ComparedMap]) -> ComparedMap:
    """The first map of the layer that most of them explain; one with cells, if there is any."""
    counts = Counter(explanation_of(compared).layers for compared in members)
    ((layers, _),) = counts.most_common(1)
    candidates = [compared for compared in members if explanation_of(compared).layers == layers]
    with_cells = (c for c in candidates if explanation_of(c).layer_maps is not None)
    return next(with_cells, candidates[0])


def explanation_of(compared: ComparedMap) -> Explanation:
    """The explanation of a method that did not fail."""
    assert compared.explanation is not None  # noqa: S101
    return compared.explanation


def layer_text(compared: ComparedMap) -> str:
    """The layer of a map, or the last of several, and its cells."""
    explanation = explanation_of(compared)
    *others, name = explanation.layers
    text = name if len(name) <= LONG else f"...{name[3 - LONG :]}"
    if others:
        text = f"{text} and {len(others)} more"
    if explanation.layer_maps is None:
        return text
    return f"{text}, {' x '.join(map(str, explanation.layer_maps.shape[1:]))} cells"


def remarks_of(compared: ComparedMap) -> Iterator[str]:
    """Whether a map is empty, and how far parts of the score are from adding up to it."""
    explanation = explanation_of(compared)
    if explanation.is_empty[0]:
        yield "empty: no evidence"
    facts = explanation.facts[0] if explanation.facts else {}
    for name, number in facts.items():
        if name.endswith(GAP):
            yield f"{name.replace('_', ' ')} {percent_text(number)}"


def notes_of(compared: ComparedMap, usual: Usual) -> Iterator[str]:
    """What to know about a map: remarks, its layer and its notices, unless they are the usual ones."""
    yield from remarks_of(compared)
    other = usual.layers.get((compared.target, compared.layer))
    if other and explanation_of(compared).layers != explanation_of(other).layers:
        yield f"layer {layer_text(compared)}"
    for notice in explanation_of(compared).notices:
        is_said = any(words in notice for words in SAID)
        if notice not in usual.notices and not is_said:
            yield shorten(notice)


def shorten(notice: str) -> str:
    """The first clause of a notice, without what is in parentheses, and without what to do."""
    return re.split(r"[;(]", notice, maxsplit=1)[0].strip()


def target_text(compared: ComparedMap) -> str:
    """The target with its score."""
    explanation = explanation_of(compared)
    probability = None if explanation.probabilities is None else explanation.probabilities[0]
    return f"{explanation.targets[0]}{format_score(explanation.scores[0], probability)}"


def cost_text(compared: ComparedMap) -> str:
    """The runs of a map, and what it takes alone."""
    runs = f"{compared.passes} run{'' if compared.passes == 1 else 's'}"
    return f"{runs} · {time_text(compared.seconds)}"


def percent_text(fraction: float) -> str:
    """A fraction as a percentage."""
    if fraction < 1e-3:
        return "below 0.1 %"
    return f"{100 * fraction:.1f} %" if fraction < 0.0995 else f"{100 * fraction:.0f} %"


def time_text(seconds: float) -> str:
    """A time in milliseconds or seconds."""
    if seconds < 0.9995:
        return f"{1000 * seconds:.0f} ms"
    return f"{seconds:.1f} s" if seconds < 99.95 else f"{seconds:.0f} s"


def failure_lines(maps: Sequence[ComparedMap]) -> Iterator[str]:
    """Why methods have no map at all: the names of those with the same reason, and the reason."""
    drawn = {compared.method for compared in maps if compared.explanation is not None}
    reasons: dict[str | None, dict[str, None]] = {}
    for compared in maps:
        if compared.method not in drawn:
            reasons.setdefault(compared.reason, {})[compared.method] = None
    for reason, methods in reasons.items():
        yield f"{', '.join(methods)}: {reason}"
