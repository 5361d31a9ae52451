"""What is explained: a weighted sum of the class scores, or of the values of another kind of target."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxcam.arrays import Floats, Scores


@dataclass(frozen=True)
class Mark:
    """Where the explained score is in an image, for drawing.

    box: left, top, right, bottom in pixels of the image.
    outline: (rows, columns) of booleans, over the part of the image that the model saw.
    """

    box: tuple[float, float, float, float] | None = None
    outline: NDArray[np.bool_] | None = None

    def scaled(self, factor: float) -> Mark:
        """The mark in an image that is larger by a factor."""
        if self.box is None:
            return self
        left, top, right, bottom = (factor * edge for edge in self.box)
        return replace(self, box=(left, top, right, bottom))


@dataclass(frozen=True)
class Target:
    """A linear function of the class scores: its name and `weights` (classes,), or one per value of a target of
    another kind.

    `index` is the class, or the first class of a contrast. `spec` selects this target again for any scores:
    "281", "281-282", "not 281", "281@box:1".

    Of a model with scores at positions, `where` (1 or classes, positions) says how much these count, `mark`
    where they are, `probability` is that of the class there, and `notices` say what was assumed.
    """

    name: str
    weights: Floats
    index: int
    spec: str
    where: Floats | None = None
    mark: Mark = field(default_factory=Mark)
    probability: float | None = None
    notices: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Which target it is, as values of JSON."""
        return {"name": self.name, "index": self.index, "spec": self.spec}

    def score(self, scores: Scores) -> Floats:
        """(N, classes) -> (N,)."""
        return np.asarray(np.sum(scores.astype(np.float64) * self.weights, axis=-1))
