"""How many inputs are run at once, and in how many lanes: measured while the work is done.

One run on all threads suits nets of few large operators, several runs at a time on one thread each those of
many small ones, which wait for their threads more than they compute. Which is faster, and in how large
chunks, depends on the model and the machine, so the first rounds try each way on inputs that have to be
run anyway.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

LARGEST = 16  # inputs of a round in lanes
MOST_LANES = 8  # each holds activations of its own
WARM = 1  # rounds of a layout that do not count: the runtime plans its memory in them
TRIALS = 3  # rounds that do


@dataclass(frozen=True)
class Schedule:
    """`lanes` runs at a time, each of at most `chunk` inputs."""

    lanes: int
    chunk: int

    def __str__(self) -> str:
        return f"{self.lanes} x {self.chunk}"

    @property
    def inputs(self) -> int:
        """Of one round."""
        return self.lanes * self.chunk


def schedules(lanes: int) -> tuple[Schedule, ...]:
    """The layouts worth trying on a CPU, the likeliest first: in one lane, and in several if there are any."""
    several = [Schedule(lanes, chunk) for chunk in (2, 1) if lanes > 1 and lanes * chunk <= LARGEST]
    return (*several[:1], Schedule(1, 4), *several[1:], Schedule(1, 8))


@dataclass
class Tuner:
    """Seconds an input of each layout, as far as they were measured; `times` may come from an earlier run."""

    layouts: Sequence[Schedule]
    times: dict[str, list[float]] = field(default_factory=dict)

    @classmethod
    def resumed(cls, layouts: Sequence[Schedule], times: object) -> Tuner:
        """With what was measured before; what is not such a table is forgotten."""
        known = times if isinstance(times, Mapping) else {}
        wanted = {str(each) for each in layouts}
        kept = {
            name: [float(each) for each in found]
            for name, found in known.items()
            if name in wanted
            and isinstance(found, list)
            and all(isinstance(e, float) and 0 <= e < math.inf for e in found)
        }
        return cls(layouts, kept)

    @property
    def rounds(self) -> int:
        """How many were measured."""
        return sum(map(len, self.times.values()))

    @property
    def is_done(self) -> bool:
        """Whether every layout was measured."""
        return all(self._rounds(each) >= WARM + TRIALS for each in self.layouts)

    @property
    def best(self) -> Schedule:
        """The fastest so far; the first where nothing was measured yet."""
        measured = [each for each in self.layouts if self._rounds(each) > WARM]
        return min(measured, key=self._cost, default=self.layouts[0])

    def layout(self, left: int) -> Schedule:
        """For the next round: of those still to be measured that `left` inputs fill the one that was measured
        least, so that a slow moment of the machine meets them all; else the best.
        """
        waiting = [each for each in self.layouts if self._rounds(each) < WARM + TRIALS]
        filled = (each for each in waiting if each.inputs <= left)
        return min(filled, key=self._rounds, default=self.best)

    def record(self, layout: Schedule, inputs: int, seconds: float) -> None:
        """A round took so long; only a full one of a layout that is being measured counts."""
        if inputs == layout.inputs and self._rounds(layout) < WARM + TRIALS:
            self.times.setdefault(str(layout), []).append(seconds / inputs)

    def _rounds(self, layout: Schedule) -> int:
        return len(self.times.get(str(layout), ()))

    def _cost(self, layout: Schedule) -> float:
        return min(self.times[str(layout)][WARM:])  # what disturbs a round only adds to it
