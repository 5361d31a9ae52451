"""Of a model with scores at boxes, pixels or steps: the class and the positions that are explained, chosen in
the graph as they are chosen on arrays where a target names no place (see `targets/where`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from onnxcam.arrays import FLOAT32, Floats
from onnxcam.dense import DETECTION, IMAGE, SEGMENTATION, SEQUENCE, Dense
from onnxcam.embedding.read_target import weights_at
from onnxcam.embedding.target import EmbeddedTarget
from onnxcam.errors import ModelError
from onnxcam.graph import anp
from onnxcam.graph.tracing import Value
from onnxcam.rewrite.sources import softmax

LOWEST = float(np.finfo(np.float32).min)


class Choice(NamedTuple):
    """The weights (N, classes) of the scores, and how much the positions count (N, 1 or classes, positions);
    whether (N,) there is what is explained, None if there always is.
    """

    weights: Value
    where: Value
    exists: Value | None = None


class Dense3D(NamedTuple):
    """The scores (N, classes, positions) of the images themselves, and what is explained."""

    dense: Dense
    scores: Value
    target: EmbeddedTarget
    chosen: Value | None

    @property
    def positions(self) -> int:
        """The number of positions. ModelError if it is not fixed."""
        size = self.scores.shape[2]
        if not isinstance(size, int):
            raise ModelError(
                "the number of positions that the model scores is not fixed; export it for images of one size"
            )
        return size

    @property
    def probabilities(self) -> Value:
        """(N, classes, positions), or the scores where these are in the same order."""
        activation = self.dense.activation or self.dense.assumed_activation
        return softmax(self.scores) if activation == "Softmax" else self.scores

    def class_weights(self, ranked: Value, lowest: float) -> Value:
        """(N, classes): the weights of the target, for numbers by which classes are ranked. The background
        ranks last.
        """
        background = self.dense.background
        if background is not None and self.dense.classes > 1:
            is_other = np.arange(self.dense.classes)[None] != background
            ranked = anp.where(is_other, ranked, ranked.constant_like(lowest))
        return self.target.write(ranked, self.chosen)

    def of_class(self, weights: Value, values: Value) -> Value:
        """(N, 1, positions): the values (N, classes, positions) of the class that the target is about."""
        is_class = self.target.first_class(weights, self.chosen)
        return anp.sum(values * anp.expand_dims(is_class, 2), axis=1, keepdims=True)


def choose_positions(
    dense: Dense,
    scores: Value,
    target: EmbeddedTarget,
    chosen: Value | None,
    where: str = "",
) -> Choice:
    """What is explained of images with these scores (N, classes, positions). `where` is a place
    that does not depend on the image; "" to choose it.
    """
    view = Dense3D(dense, scores, target, chosen)
    if not where:
        return CHOOSE[dense.task](view)
    return _at(view, weights_at(where, dense.task, view.positions))


def _at(view: Dense3D, weights: Floats) -> Choice:
    where = view.scores.build.constant(weights[None, None], np.float32)
    ranked = anp.sum(view.scores * where, axis=2)
    if view.dense.task == DETECTION:
        return Choice(view.class_weights(ranked, LOWEST), where)
    return Choice(view.target.write(ranked, view.chosen), where)


def _best_detection(view: Dense3D) -> Choice:
    """The position with the largest probability of the class; the class with the surest detection."""
    probabilities = view.probabilities
    weights = view.class_weights(anp.max(probabilities, axis=2), LOWEST)
    of_class = view.of_class(weights, probabilities)
    best = of_class.build.op("ArgMax", of_class, axis=2, keepdims=1)
    numbers = of_class.build.constant(np.arange(view.positions)[None, None])
    return Choice(weights, anp.equal(best, numbers).astype(FLOAT32))


def _region(view: Dense3D) -> Choice:
    """The mean over the pixels where the class has the highest score; the class with the largest area."""
    scores, build = view.scores, view.scores.build
    if view.dense.classes == 1:
        is_inside = (scores > view.target.middle).astype(FLOAT32)
        weights = view.class_weights(anp.sum(is_inside, axis=2), -1.0)
        sign = anp.expand_dims(weights, 2)
        wins = (sign * (scores - view.target.middle) > 0).astype(FLOAT32)
    else:
        best = build.op("ArgMax", scores, axis=1, keepdims=1)
        classes = build.constant(np.arange(view.dense.classes)[None, :, None])
        all_wins = anp.equal(best, classes).astype(FLOAT32)
        weights = view.class_weights(anp.sum(all_wins, axis=2), -1.0)
        wins = view.of_class(weights, all_wins)
    return Choice(weights, _mean_over(wins, view.positions))


def _mean_over(wins: Value, positions: int) -> Value:
    """The weights of a mean over some positions; over all, if there are none."""
    count = anp.sum(wins, axis=2, keepdims=True)
    return anp.where(count > 0, wins / anp.maximum(count, 1.0), wins.constant_like(1 / positions))


def _everything(view: Dense3D) -> Choice:
    """The mean over all positions."""
    return _at(view, np.full(view.positions, 1 / view.positions))


def _text(view: Dense3D) -> Choice:
    """All characters that were read, each with its class; or the steps at which the class was read, else the
    one where it is likeliest.
    """
    scores, build = view.scores, view.scores.build
    best = build.op("ArgMax", scores, axis=1, keepdims=1)
    classes = np.arange(view.dense.classes)
    is_read = anp.equal(best, build.constant(classes[None, :, None])).astype(FLOAT32)
    characters = is_read * (classes != view.dense.blank).astype(np.float32)[None, :, None]
    every_class = anp.ones_like(characters[:, :, 0])
    is_text = anp.sum(characters, axis=(1, 2)) > 0
    if view.chosen is None and view.target.rank:
        return Choice(every_class, characters, is_text)
    weights = view.target.write(every_class, view.chosen)
    steps = view.of_class(weights, characters)
    of_class = view.of_class(weights, view.probabilities)
    likeliest = anp.equal(of_class, anp.max(of_class, axis=2, keepdims=True)).astype(FLOAT32)
    chosen_steps = anp.where(anp.sum(steps, axis=2, keepdims=True) > 0, steps, likeliest)
    where = _mean_over(chosen_steps, view.positions)
    if view.chosen is None or not view.target.rank:
        return Choice(weights, where)
    is_default = anp.expand_dims(view.chosen, 1) < 0
    return Choice(
        anp.where(is_default, every_class, weights),
        anp.where(anp.expand_dims(is_default, 2), characters, where),
        is_text | (view.chosen >= 0),
    )


CHOOSE: dict[str, Callable[[Dense3D], Choice]] = {
    DETECTION: _best_detection,
    SEGMENTATION: _region,
    IMAGE: _everything,
    SEQUENCE: _text,
}
