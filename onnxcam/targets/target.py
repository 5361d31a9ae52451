"""What is explained: a weighted sum of the class scores, or of the values of another kind of target."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from onnxcam.arrays import Floats, Scores


@dataclass(frozen=True)
class Target:
    """A linear function of the class scores: its name and `weights` (classes,), or one per value of a target of
    another kind.

    `index` is the class, or the first class of a contrast. `spec` selects this target again for any scores:
    "281", "281-282", "not 281".
    """

    name: str
    weights: Floats
    index: int
    spec: str

    def score(self, scores: Scores) -> Floats:
        """(N, classes) -> (N,)."""
        return np.asarray(np.sum(scores.astype(np.float64) * self.weights, axis=-1))
