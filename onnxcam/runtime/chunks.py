"""Many inputs through one model, several at a time."""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field

import numpy as np

from onnxcam.arrays import Array
from onnxcam.errors import ModelError, OutOfMemoryError, RunError
from onnxcam.runtime.device import usable_cpus
from onnxcam.runtime.fork import abandon, watch
from onnxcam.runtime.schedule import MOST_LANES, Schedule, Tuner, schedules
from onnxcam.runtime.session import FeedValue, Session

CHUNK = 8  # where nothing is measured: as fast an input as more, and a fraction of their memory
AHEAD = 2  # chunks a lane that wait for it
Feed = Callable[[slice], Mapping[str, FeedValue]]


@dataclass
class ChunkedRunner:
    """Runs of a model in chunks of at most `chunk`, or as the `tuner` finds fastest.

    `fixed` is the batch that the model was exported for, if it could not be freed of it: a last chunk is then
    filled up, with zeros in the inputs of `blank`. `lane` opens the model once more on few threads, for several
    runs at a time; `keep` is told what was measured. A chunk that does not fit into memory is halved, for good.
    """

    session: Session
    fixed: int | None = None
    chunk: int = CHUNK
    tuner: Tuner | None = None
    lane: Callable[[], Session] | None = None
    keep: Callable[[object], None] | None = None
    blank: frozenset[str] = frozenset()
    _lane: tuple[Session, ThreadPoolExecutor] | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        watch(self)

    def renew(self) -> None:
        """Forget the lanes: a forked process has none of their threads."""
        if self._lane is not None:
            abandon(self._lane[1])
            self._lane = None

    def run(
        self, outputs: Sequence[str], count: int, feed: Feed
    ) -> Iterator[tuple[slice, list[Array]]]:
        """The outputs for inputs 0 to `count`, in order; `feed` makes the inputs of a range.

        RunError where not even one input at a time fits into memory.
        """
        start, tuner = 0, self.tuner  # another thread that runs out of memory may remove it
        known = tuner.rounds if tuner else 0
        while start < count:
            layout = self._layout(count - start)
            try:
                for part, found in self._ran(outputs, start, count, feed, layout):
                    yield part, found
                    start = part.stop
            except (OutOfMemoryError, MemoryError) as fault:
                self._halve(layout, fault)
            except ModelError:
                if self._lane is not None or self.tuner is None:
                    raise
                self.tuner = None  # it cannot be opened once more: the cache was emptied
            except RuntimeError:
                if self._lane is None:
                    raise
                self.tuner, self._lane = None, None  # the system cannot start a thread for a lane
        tuner = self.tuner
        if self.keep and tuner and tuner.rounds > known:
            self.keep(tuner.times)

    def _layout(self, left: int) -> Schedule:
        if self.fixed is not None:
            return Schedule(1, self.fixed)
        tuner = self.tuner
        if tuner is None or left < 2:
            return Schedule(1, self.chunk)
        return tuner.layout(left)

    def _ran(
        self, outputs: Sequence[str], start: int, count: int, feed: Feed, layout: Schedule
    ) -> Iterable[tuple[slice, list[Array]]]:
        """All that is left, part by part; of a layout that is still measured one round."""
        if self.fixed is not None:
            parts = [slice(i, min(i + self.fixed, count)) for i in range(start, count, self.fixed)]
            return self._in_turn(outputs, parts, feed, layout)
        tuner = self.tuner
        if tuner is None or tuner.is_done:
            return self._in_turn(outputs, _even(start, count, layout), feed, layout)
        stop = min(start + layout.inputs, count)
        begin = time.perf_counter()
        found = [*self._in_turn(outputs, _even(start, stop, layout), feed, layout)]
        tuner.record(layout, stop - start, time.perf_counter() - begin)
        return found

    def _in_turn(
        self, outputs: Sequence[str], parts: list[slice], feed: Feed, layout: Schedule
    ) -> Iterator[tuple[slice, list[Array]]]:
        """The outputs of each part: one after the other, or in lanes that each take the next."""
        if layout.lanes == 1:
            for part in parts:
                yield part, self._run(self.session, outputs, part, feed)
            return
        session, pool = self._in_lanes(layout.lanes)
        left, running = deque(parts), deque[tuple[slice, Future[list[Array]]]]()
        try:
            while left or running:
                while left and len(running) < AHEAD * layout.lanes:
                    part = left.popleft()
                    running.append((part, pool.submit(self._run, session, outputs, part, feed)))
                part, found = running.popleft()
                yield part, found.result()
        finally:  # where one fails the others must not go on beside what is tried next
            for _, each in running:
                each.cancel()
            wait([each for _, each in running])

    def _in_lanes(self, lanes: int) -> tuple[Session, ThreadPoolExecutor]:
        assert self.lane is not None  # noqa: S101  a tuner with lanes comes with one
        lane = self._lane = self._lane or (self.lane(), ThreadPoolExecutor(lanes))
        return lane

    def _run(
        self, session: Session, outputs: Sequence[str], part: slice, feed: Feed
    ) -> list[Array]:
        feeds, count = feed(part), part.stop - part.start
        if self.fixed is None or self.fixed == count:
            return session.run(outputs, feeds)
        filled = {
            name: _filled_up(each, self.fixed, zero=name in self.blank) if np.ndim(each) else each
            for name, each in feeds.items()
        }
        return [
            each[:count] if len(each) == self.fixed else each
            for each in session.run(outputs, filled)
        ]

    def _halve(self, layout: Schedule, fault: BaseException) -> None:
        if self.fixed is not None or layout.inputs <= 1:
            raise RunError(
                f"out of memory on {self.session.device} with {self.fixed or 1} picture(s) at a time; "
                "use --device cpu, or a smaller picture size"
            ) from fault
        self.tuner, self._lane, self.chunk = None, None, max(1, layout.chunk // 2)


def _even(start: int, stop: int, layout: Schedule) -> list[slice]:
    """Parts of at most a chunk, as many for each lane, that share what there is, so that none is small."""
    left = stop - start
    wanted = -(-left // layout.chunk)
    number = min(left, -(-wanted // layout.lanes) * layout.lanes)
    edges = [start - (-left * i // number) for i in range(number + 1)]
    return [slice(a, b) for a, b in itertools.pairwise(edges)]


def _filled_up(array: Array, count: int, *, zero: bool) -> Array:
    """The array with its last entry, or zeros, repeated up to `count` entries."""
    last = np.zeros_like(array[-1:]) if zero else array[-1:]
    return np.concatenate([array, np.repeat(last, count - len(array), axis=0)])


def batches(
    session: Session,
    fixed: int | None,
    chunk: int | None,
    blank: frozenset[str],
    again: Callable[[int], Session] | None = None,
    times: object = None,
    keep: Callable[[object], None] | None = None,
) -> ChunkedRunner:
    """Runs of at most `chunk` inputs or, on a CPU, if that is None, as is measured to be fastest: `again` opens
    the model on so many threads, `times` were measured before, and `keep` is told what is measured now.
    """
    if chunk is not None or fixed is not None or session.device.kind != "cpu":
        return ChunkedRunner(session, fixed, chunk or CHUNK, blank=blank)
    lanes = min(usable_cpus(), MOST_LANES) if again else 1
    tuner = Tuner.resumed(schedules(lanes), times)
    threads = max(1, usable_cpus() // lanes)
    lane = (lambda: again(threads)) if again else None
    return ChunkedRunner(session, tuner=tuner, lane=lane, keep=keep, blank=blank)
