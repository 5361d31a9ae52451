"""Places of a target: what an image shows at all positions, and how some of the positions are selected."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from onnxcam.arrays import Floats
from onnxcam.dense import DETECTION, IMAGE, SEGMENTATION, SEQUENCE, Dense
from onnxcam.errors import PlaceError, TargetError
from onnxcam.registry import Registry
from onnxcam.targets.classes import Side
from onnxcam.targets.target import Mark

Rectangle: TypeAlias = tuple[float, float, float, float]  # left, top, right, bottom
TASKS = DETECTION, SEGMENTATION, SEQUENCE, IMAGE
EVERYTHING = "all"
NO_MARK = Mark()
DEFAULT_PLACES = {DETECTION: "best", SEGMENTATION: "segment", SEQUENCE: "text", IMAGE: EVERYTHING}


@dataclass(frozen=True)
class DenseView:
    """What a model says about one image at all positions.

    dense: what the scores are.
    scores: (classes, positions).
    probabilities: the same as probabilities, or the scores if they have none.
    grid: rows and columns of the positions of a segmenter.
    boxes: (positions, 4): left, top, right, bottom in pixels of the image; None if they are unknown.
    shown: the part of the image that the model saw, in pixels of the image.
    labels: the names of the classes.
    suppress: takes boxes (positions, 4) and their probabilities (positions,), and returns the positions of the
        best detections, the best first, each once.
    read_mask: takes the name of a file, and returns (height, width) of booleans, of the size of the image.
    cover: takes such a mask, and returns (rows, columns): how much of each cell of the grid it covers.
    """

    dense: Dense
    scores: Floats
    probabilities: Floats
    shown: Rectangle
    grid: tuple[int, int] | None = None
    boxes: Floats | None = None
    labels: tuple[str, ...] | None = None
    suppress: Callable[[Floats, Floats], NDArray[np.int64]] = lambda _, scores: np.argsort(-scores)
    read_mask: Callable[[str], NDArray[np.bool_]] = lambda name: np.load(name) != 0
    cover: Callable[[NDArray[np.bool_]], Floats] = lambda mask: mask.astype(np.float64)

    @property
    def classes(self) -> int:
        """The number of classes."""
        return len(self.scores)

    @property
    def middle(self) -> float:
        """What divides the two sides of a single score."""
        return 0.5 if self.dense.is_probability else 0.0

    def without_background(self, scores: Floats) -> Floats:
        """A copy of scores (classes, ...) in which the background ranks last."""
        ranked = np.array(scores)
        if self.dense.background is not None:
            ranked[self.dense.background] = -np.inf
        return ranked

    @property
    def positions(self) -> int:
        """The number of positions."""
        return self.scores.shape[1]

    def at(self, positions: Any, mark: Mark = NO_MARK, notices: tuple[str, ...] = ()) -> Selection:
        """The mean over some positions: their indices, or weights (rows, columns)."""
        weights = np.zeros(self.positions)
        if np.ndim(positions) == 2:
            weights = np.asarray(positions, np.float64).reshape(-1)
        else:
            weights[positions] = 1.0
        return Selection((weights / weights.sum())[None], mark, notices)


@dataclass(frozen=True)
class Selection:
    """Which positions are explained.

    weights: (1 or classes, positions): how much they count.
    mark: how they are shown.
    notices: what a user should know about them.
    name: what is explained, if it is more than a class.
    """

    weights: Floats
    mark: Mark = NO_MARK
    notices: tuple[str, ...] = ()
    name: str | None = None


Select: TypeAlias = Callable[..., Selection]
Rank: TypeAlias = Callable[[DenseView], Floats]
Respell: TypeAlias = Callable[[DenseView, Side, Selection], str]
Fixed: TypeAlias = Callable[..., Floats]


@dataclass(frozen=True)
class Place:
    """What can be written after the `@` of a target.

    pattern: what a user writes; its named groups are arguments of `select`.
    usage: the same for a message.
    select: takes a view, the class (None if it is the best one there), and the groups of the pattern.
    rank: by which scores (classes,) classes are ranked before positions are selected; None to rank them at
        the selected positions.
    respell: the text that selects the same positions for a class that was ranked there; None if it is the
        same text.
    fixed: takes the number of positions and the groups, and returns (positions,), how much they count: what
        `select` does of a place that is the same in every image; None for one that depends on the image.
    tasks: the tasks of models that have such places.
    """

    name: str
    pattern: re.Pattern[str]
    usage: str
    select: Select
    rank: Rank | None
    respell: Respell | None
    fixed: Fixed | None
    tasks: Collection[str]


PLACES: Registry[Place] = Registry("place of a target")


def place(
    name: str,
    pattern: str,
    usage: str,
    *,
    rank: Rank | None = None,
    respell: Respell | None = None,
    fixed: Fixed | None = None,
    tasks: Collection[str] = TASKS,
) -> Callable[[Select], Select]:
    """A decorator that adds a function to the table of places; see `Place`."""

    def register(select: Select) -> Select:
        compiled = re.compile(pattern, re.DOTALL)
        PLACES.add(name, Place(name, compiled, usage, select, rank, respell, fixed, tasks))
        return select

    return register


def numbered(positions: int, *, number: str) -> Floats:
    """(positions,): 1 at a number. PlaceError if there is no such position."""
    if int(number) >= positions:
        raise PlaceError(f"expected a number from 0 to {positions - 1}, not {number}")
    return np.eye(1, positions, int(number))[0]


def find_place(text: str, task: str) -> tuple[Place, dict[str, str]]:
    """The place that a text after the `@` names, and the groups of its pattern. TargetError if there is none,
    or if models of this task have none.
    """
    for candidate in PLACES.values():
        match = candidate.pattern.fullmatch(text.strip())
        if match and task in candidate.tasks:
            return candidate, match.groupdict()
    usages = ", ".join(
        f"@{candidate.usage}" for candidate in PLACES.values() if task in candidate.tasks
    )
    raise TargetError(f"@{text}: expected one of {usages} for the task {task}")
