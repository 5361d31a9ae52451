"""How many inputs are run at once, and by how many workers: measured while the work is done.

One run on all threads suits networks of few large operators. Several runs at a time, on one thread each, suit
those of many small operators, which wait for their threads more than they compute. Which is faster, and in
which chunk size, depends on the model and the machine, so the first rounds try each schedule on inputs that
have to be run anyway.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

MAX_ROUND_INPUTS = 16  # inputs of a round with several workers
MAX_WORKERS = 8  # each holds its own activations
WARM_UP_ROUNDS = 1  # rounds of a schedule that do not count: the runtime plans its memory in them
TIMED_ROUNDS = 3  # rounds that count


@dataclass(frozen=True)
class Schedule:
    """`workers` runs at a time, each of at most `chunk` inputs."""

    workers: int
    chunk: int

    def __str__(self) -> str:
        return f"{self.workers} x {self.chunk}"

    @property
    def inputs(self) -> int:
        """The number of inputs of one round."""
        return self.workers * self.chunk


def schedules(workers: int) -> tuple[Schedule, ...]:
    """The schedules worth trying on a CPU, the likeliest first, with one worker and with several."""
    parallel = [
        Schedule(workers, chunk)
        for chunk in (2, 1)
        if workers > 1 and workers * chunk <= MAX_ROUND_INPUTS
    ]
    return (*parallel[:1], Schedule(1, 4), *parallel[1:], Schedule(1, 8))


@dataclass
class Tuner:
    """Seconds per input of each schedule, as far as measured; `times` may come from an earlier run."""

    schedules: Sequence[Schedule]
    times: dict[str, list[float]] = field(default_factory=dict)

    @classmethod
    def resume(cls, schedules: Sequence[Schedule], times: object) -> Tuner:
        """A tuner with the times of an earlier run; anything that is not a table of times is ignored."""
        table = times if isinstance(times, Mapping) else {}
        names = {str(schedule) for schedule in schedules}
        valid = {
            name: list(seconds)
            for name, seconds in table.items()
            if name in names
            and isinstance(seconds, list)
            and all(isinstance(value, float) and 0 <= value < math.inf for value in seconds)
        }
        return cls(schedules, valid)

    @property
    def rounds(self) -> int:
        """How many rounds were measured."""
        return sum(map(len, self.times.values()))

    @property
    def is_done(self) -> bool:
        """Whether every schedule was measured."""
        return all(
            self._rounds(schedule) >= WARM_UP_ROUNDS + TIMED_ROUNDS for schedule in self.schedules
        )

    @property
    def best(self) -> Schedule:
        """The fastest so far; the first one if nothing was measured yet."""
        measured = [
            schedule for schedule in self.schedules if self._rounds(schedule) > WARM_UP_ROUNDS
        ]
        return min(measured, key=self._cost, default=self.schedules[0])

    def next_schedule(self, remaining: int) -> Schedule:
        """The schedule of the next round: the least measured one whose round the `remaining` inputs fill, so
        that a slow moment of the machine affects all schedules alike; the best one if all are measured.
        """
        unfinished = [s for s in self.schedules if self._rounds(s) < WARM_UP_ROUNDS + TIMED_ROUNDS]
        filled = (schedule for schedule in unfinished if schedule.inputs <= remaining)
        return min(filled, key=self._rounds, default=self.best)

    def record(self, schedule: Schedule, inputs: int, seconds: float) -> None:
        """Record the time of a round; only a full round of a schedule that is being measured counts."""
        if inputs == schedule.inputs and self._rounds(schedule) < WARM_UP_ROUNDS + TIMED_ROUNDS:
            self.times.setdefault(str(schedule), []).append(seconds / inputs)

    def _rounds(self, schedule: Schedule) -> int:
        return len(self.times.get(str(schedule), ()))

    def _cost(self, schedule: Schedule) -> float:
        return min(self.times[str(schedule)][WARM_UP_ROUNDS:])  # disturbances only add to a time
