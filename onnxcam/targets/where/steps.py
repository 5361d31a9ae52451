"""Steps of a sequence: `@step:5`, and by default all steps at which the decoded characters were read."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from onnxcam.dense import SEQUENCE
from onnxcam.errors import PlaceError
from onnxcam.targets.classes import Side
from onnxcam.targets.where.place import DenseView, Selection, numbered, place


class Character(NamedTuple):
    """The number of a class that was read, and the steps at which it was."""

    number: int
    steps: NDArray[np.int64]


def decode(view: DenseView) -> list[Character]:
    """The characters of the best path (CTC, Graves et al. 2006, best path decoding): the best class of each
    step, repetitions as one, without the blank.
    """
    best = view.scores.argmax(axis=0)
    starts = np.flatnonzero(np.diff(best, prepend=-1))
    runs = np.split(np.arange(len(best)), starts[1:])
    characters = [Character(int(best[run[0]]), run) for run in runs]
    return [character for character in characters if character.number != view.dense.blank]


def spell(view: DenseView) -> str:
    """The decoded text; classes without a name are written as numbers in brackets."""
    labels = view.labels or ()
    return "".join(
        labels[character.number] if character.number < len(labels) else f"[{character.number}]"
        for character in decode(view)
    )


@place("step", r"step:\s*(?P<number>\d{1,9})", "step:5", fixed=numbered, tasks=[SEQUENCE])
def step(view: DenseView, _: Side | None, *, number: str) -> Selection:
    """One step, counted from 0."""
    return Selection(numbered(view.positions, number=number)[None])


@place("text", r"text", "text", tasks=[SEQUENCE])
def text(view: DenseView, side: Side | None) -> Selection:
    """The steps at which the class was read; for no class in particular, those of all characters, each with the
    class that was read there.
    """
    characters = decode(view)
    if side is not None:
        steps = [character.steps for character in characters if character.number == side.index]
        if steps:
            return view.at(np.concatenate(steps))
        best = int(view.probabilities[side.index].argmax())
        notice = (
            f"the class was read at no step, so the one where it is likeliest ({best}) is explained"
        )
        return Selection(view.at([best]).weights, notices=(notice,))
    if not characters:
        raise PlaceError(
            "the model read no character, so there is no text to explain; name a class or a step (@step:5)"
        )
    weights = np.zeros((view.classes, view.positions))
    for character in characters:
        weights[character.number, character.steps] = 1.0
    return Selection(weights, name=spell(view))
