"""The loop of an ascent or an inversion: steps of Adam on the parameters of images, with checkpoints."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from onnxcam.arrays import Floats
from onnxcam.ascent.adam import AdamState
from onnxcam.ascent.basis import Basis
from onnxcam.ascent.movements import move
from onnxcam.ascent.penalties import power_penalty, variation_penalty

BLUR_INTERVAL = 4  # steps, as in Yosinski et al. 2015, table 1


class Step(NamedTuple):
    """What is known after a step: its number from 1, of how many, and per image the score or distance, before
    the step and as the image was moved. Of an inversion of several layers, also the number of the layer from 0,
    of how many; each has as many steps.
    """

    number: int
    total: int
    scores: Floats
    layer: int = 0
    layers: int = 1


StepCallback = Callable[[Step], None]


def no_callback(step: Step) -> None:
    """The default callback: does nothing."""


class Objective(Protocol):
    """What is minimized, besides the penalties."""

    def __call__(self, x: Floats) -> tuple[Floats, Floats]:
        """For images x (N, C, H, W), where -1 is black and 1 is white: the score or distance (N,), and the
        direction in which it becomes worse, or its gradient, at x.
        """


@dataclass(frozen=True)
class Descent:
    """How images are changed, an image for each of the seeds.

    steps, deviation: how many, and the standard deviation of the noise that they start from.
    rate, slowing: a step is `rate` / (1 + step / slowing); 0 slows nothing.
    norm, power: the weight of the mean of |x|^power.
    variation, beta: the weight of the total variation, and half the power of differences in it.
    blur: pixels of the Gaussian blur after every fourth step.
    jitter, zoom: see `movements.move`.
    """

    basis: Basis
    seeds: tuple[int, ...]
    steps: int
    deviation: float
    rate: float
    slowing: float = 0.0
    norm: float = 0.0
    power: float = 2.0
    variation: float = 0.0
    beta: float = 2.0
    blur: float = 0.0
    jitter: int = 0
    zoom: float = 0.0

    def start(self) -> AdamState:
        """The state before the first step."""
        return AdamState.start(self.basis.start(self.seeds, self.deviation))

    def slope(self, x: Floats, objective: Objective, step: int) -> tuple[Floats, Floats]:
        """The objective (N,) and the gradient with all penalties at images x (N, C, H, W)."""
        moved, pull_back = move(x, self.seeds, step, jitter=self.jitter, zoom=self.zoom)
        value, slope = objective(moved)
        return value, pull_back(slope) + self.penalties(x)[1]

    def penalties(self, x: Floats) -> tuple[Floats, Floats]:
        """The weighted sum (N,) of the penalties of images x, and its gradient."""
        norm, norm_slope = power_penalty(x, self.power)
        variation, variation_slope = variation_penalty(x, self.beta)
        value = self.norm * norm + self.variation * variation
        return value, self.norm * norm_slope + self.variation * variation_slope

    def advance(self, state: AdamState, objective: Objective) -> tuple[AdamState, Floats]:
        """The state after a step, and the scores (N,) before it."""
        x = self.basis.image(state.parameters)
        scores, gradient = self.slope(x, objective, state.step)
        rate = self.rate / (1 + state.step / self.slowing) if self.slowing else self.rate
        state = state.descend(self.basis.gradient(x, gradient), rate)
        parameters = self.basis.project(state.parameters)
        if self.blur and state.step % BLUR_INTERVAL == 0:
            parameters = self.basis.blur(parameters, self.blur)
        return state.with_parameters(parameters), scores


class Keeper(Protocol):
    """What keeps the state of an unfinished descent."""

    def load(self) -> tuple[AdamState, Floats] | None:
        """The state that was kept last, and the scores (steps, N) before it; None if there is none."""

    def keep(self, state: AdamState, scores: Floats, *, is_last: bool) -> None:
        """Keep the state, unless that was done a moment ago and this is not the last one."""


def run(
    descent: Descent,
    objective: Objective,
    keeper: Keeper | None = None,
    callback: StepCallback = no_callback,
) -> tuple[Floats, Floats]:
    """The images x (N, C, H, W) after all steps, and the scores (steps, N) before each step. A kept state is
    continued, and kept again at the end, and when the run is interrupted; that of more steps stays as it is.
    """
    stored, scores = keeper.load() if keeper else None, list[Floats]()
    state = descent.start()
    if stored is not None and stored[0].step > descent.steps:
        keeper = None  # it has the state of a longer run, which is not lost for a shorter one
    elif stored is not None:
        state, scores = stored[0], [*stored[1]]
    try:
        while state.step < descent.steps:
            state, latest = descent.advance(state, objective)
            scores.append(latest)
            callback(Step(state.step, descent.steps, latest))
            if keeper:
                keeper.keep(state, np.array(scores), is_last=False)
    finally:
        if keeper and scores:
            keeper.keep(state, np.array(scores), is_last=True)
    return descent.basis.image(state.parameters), np.array(scores)
