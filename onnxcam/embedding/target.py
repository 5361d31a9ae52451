"""The target of an embedded explanation: the weights of the class scores, chosen in the graph."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from onnxcam.arrays import FLOAT32, Floats
from onnxcam.graph import anp
from onnxcam.graph.tracing import Value
from onnxcam.rewrite.ranked_seed import class_of_rank


@dataclass(frozen=True)
class EmbeddedTarget:
    """What is explained.

    Attributes:
        name: how it is called.
        rank: 1 for the class with the highest score, 2 for the next one; negative for the evidence against it;
            0 for fixed weights.
        weights: (classes,) of a target that does not depend on the scores.
        index: the class that such a target is about, or the first class of a contrast.
        has_two_sides: whether a single score stands for two classes.
        middle: what divides the two.
    """

    name: str
    rank: int = 1
    weights: Floats | None = None
    index: int = 0
    has_two_sides: bool = False
    middle: float = 0.0

    def write(self, scores: Value, chosen: Value | None = None) -> Value:
        """(N, classes) float32: the weights for these scores (N, classes). `chosen` (N,) are classes,
        -1 for the target itself.
        """
        weights = self._weights(scores)
        if chosen is None:
            return weights
        column = anp.expand_dims(chosen, 1)
        return anp.where(column < 0, weights, self._weights_of(column, int(scores.shape[1] or 0)))

    def first_class(self, weights: Value, chosen: Value | None = None) -> Value:
        """(N, classes) float32: 1 for the class that these weights are about, the first one of a contrast."""
        if self.weights is None or int(weights.shape[1] or 0) == 1:
            return anp.abs(weights)
        classes = np.arange(len(self.weights))[None]
        own = anp.zeros_like(weights) + (classes == self.index).astype(np.float32)
        if chosen is None:
            return own
        column = anp.expand_dims(chosen, 1)
        return anp.where(column < 0, own, self._weights_of(column, len(self.weights)))

    @staticmethod
    def exists(chosen: Value, classes: int) -> Value:
        """(N,) bool: whether `chosen` (N,) are classes, or -1. A single score has two sides."""
        return (chosen >= -1) & (chosen < max(classes, 2))

    def _weights(self, scores: Value) -> Value:
        if self.weights is not None:
            return anp.zeros_like(scores, FLOAT32) + self.weights[None].astype(np.float32)
        classes = int(scores.shape[1] or 0)
        if classes == 1:
            return self._side(scores)
        if abs(self.rank) == 1:
            best = scores.build.op("ArgMax", scores, axis=1, keepdims=1)
            is_best = anp.equal(best, scores.build.constant(np.arange(classes)[None]))
            return is_best.astype(FLOAT32) * float(np.sign(self.rank))
        rank = anp.zeros_like(scores[:, 0]).astype(np.int64) + self.rank
        return class_of_rank(scores, rank, classes)

    def _side(self, scores: Value) -> Value:
        """The side of a single score."""
        sign = float(np.sign(self.rank)) * (1.0 if abs(self.rank) == 1 else -1.0)
        if not self.has_two_sides:
            return anp.full_like(scores.astype(FLOAT32), sign)
        return anp.where(
            scores > self.middle, scores.constant_like(sign), scores.constant_like(-sign)
        ).astype(FLOAT32)

    def _weights_of(self, column: Value, classes: int) -> Value:
        """The weights of the classes in (N, 1). Of a single score, 0 and 1 are its two sides."""
        if classes == 1:
            signs = (-1.0, 1.0) if self.has_two_sides else (1.0, -1.0)
            build = column.build
            first, second = (build.constant(np.float32(sign)) for sign in signs)
            return anp.where(anp.equal(column, 0), first, second)
        return anp.equal(column, column.build.constant(np.arange(classes)[None])).astype(FLOAT32)
