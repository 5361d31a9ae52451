"""Adam (Kingma and Ba 2015, algorithm 1): gradient descent whose steps have about the same size everywhere."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from onnxcam.arrays import Floats

FIRST_DECAY, SECOND_DECAY, EPSILON = (
    0.9,
    0.999,
    1e-12,
)  # gradients of one pixel are tiny: 1e-8 is not


@dataclass(frozen=True)
class AdamState:
    """The parameters, the running means of the gradient and of its square, and the number of steps so far."""

    parameters: Floats
    first: Floats
    second: Floats
    step: int = 0

    @classmethod
    def start(cls, parameters: Floats) -> AdamState:
        """The state before the first step."""
        zeros = np.zeros_like(parameters)
        return cls(parameters, zeros, zeros)

    def descend(self, gradient: Floats, rate: float) -> AdamState:
        """The state after one step against the gradient; a parameter moves by about `rate`."""
        step = self.step + 1
        first = FIRST_DECAY * self.first + (1 - FIRST_DECAY) * gradient
        second = SECOND_DECAY * self.second + (1 - SECOND_DECAY) * np.square(gradient)
        mean = first / (1 - FIRST_DECAY**step)
        deviation = np.sqrt(second / (1 - SECOND_DECAY**step))
        moved = self.parameters - rate * mean / (deviation + EPSILON)
        return AdamState(moved, first, second, step)

    def with_parameters(self, parameters: Floats) -> AdamState:
        """The state with other parameters, such as those brought back into their range."""
        return replace(self, parameters=parameters)
