"""Runs of a model on many inputs, in chunks and on several threads."""

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
from onnxcam.runtime.schedule import MAX_WORKERS, Schedule, Tuner, schedules
from onnxcam.runtime.session import FeedValue, Session
from onnxcam.runtime.threads import submit

CHUNK = (
    8  # if nothing is measured: as fast per input as larger chunks, with a fraction of the memory
)
CHUNKS_AHEAD = 2  # chunks that wait for each worker
Feed = Callable[[slice], Mapping[str, FeedValue]]


@dataclass
class ChunkedRunner:
    """Runs of a model in chunks of at most `chunk`, or as the `tuner` finds fastest.

    `fixed_batch` is the batch size that the model was exported for, if it cannot be made dynamic; the last
    chunk is then padded, with zeros in the inputs of `zero_padded_inputs`. `open_worker` opens the model
    once more on few threads, for several runs at a time; `on_measured` receives the measured times. A chunk
    that does not fit into memory is halved, permanently.
    """

    session: Session
    fixed_batch: int | None = None
    chunk: int = CHUNK
    tuner: Tuner | None = None
    open_worker: Callable[[], Session] | None = None
    on_measured: Callable[[object], None] | None = None
    zero_padded_inputs: frozenset[str] = frozenset()
    _workers: tuple[Session, ThreadPoolExecutor] | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        watch(self)

    @property
    def is_tuned(self) -> bool:
        """Whether nothing is measured any more; until then, other runs would disturb."""
        tuner = self.tuner
        return tuner is None or tuner.is_done

    def renew(self) -> None:
        """Forget the workers: a forked process has none of their threads."""
        if self._workers is not None:
            abandon(self._workers[1])
            self._workers = None

    def run(
        self, outputs: Sequence[str], count: int, feed: Feed
    ) -> Iterator[tuple[slice, list[Array]]]:
        """The outputs for the inputs 0 to `count` - 1, in order; `feed` returns the inputs of a range.

        RunError if not even one input at a time fits into memory.
        """
        start, tuner = 0, self.tuner  # another thread that runs out of memory may remove it
        measured = tuner.rounds if tuner else 0
        while start < count:
            schedule = self._schedule(count - start)
            try:
                for chunk, arrays in self._run_round(outputs, start, count, feed, schedule):
                    yield chunk, arrays
                    start = chunk.stop
            except (OutOfMemoryError, MemoryError) as error:
                self._halve_chunk(schedule, error)
            except ModelError:
                if self._workers is not None or self.tuner is None:
                    raise
                self.tuner = None  # the model cannot be opened again: the cache was emptied
            except RuntimeError:
                if self._workers is None:
                    raise
                self.tuner, self._workers = None, None  # the system cannot start a thread
        tuner = self.tuner
        if self.on_measured and tuner and tuner.rounds > measured:
            self.on_measured(tuner.times)

    def _schedule(self, remaining: int) -> Schedule:
        if self.fixed_batch is not None:
            return Schedule(1, self.fixed_batch)
        tuner = self.tuner
        if tuner is None or remaining < 2:
            return Schedule(1, self.chunk)
        return tuner.next_schedule(remaining)

    def _run_round(
        self, outputs: Sequence[str], start: int, count: int, feed: Feed, schedule: Schedule
    ) -> Iterable[tuple[slice, list[Array]]]:
        """All remaining inputs, chunk by chunk; only one round if its schedule is still being measured."""
        batch = self.fixed_batch
        if batch is not None:
            chunks = [slice(i, min(i + batch, count)) for i in range(start, count, batch)]
            return self._run_chunks(outputs, chunks, feed, schedule)
        tuner = self.tuner
        if tuner is None or tuner.is_done:
            return self._run_chunks(outputs, _even_chunks(start, count, schedule), feed, schedule)
        stop = min(start + schedule.inputs, count)
        start_time = time.perf_counter()
        chunks = _even_chunks(start, stop, schedule)
        results = list(self._run_chunks(outputs, chunks, feed, schedule))
        tuner.record(schedule, stop - start, time.perf_counter() - start_time)
        return results

    def _run_chunks(
        self, outputs: Sequence[str], chunks: list[slice], feed: Feed, schedule: Schedule
    ) -> Iterator[tuple[slice, list[Array]]]:
        """The outputs of each chunk: one after the other, or by workers that each take the next chunk."""
        if schedule.workers == 1:
            for chunk in chunks:
                yield chunk, self._run(self.session, outputs, chunk, feed)
            return
        pending, running = deque(chunks), deque[tuple[slice, Future[list[Array]]]]()
        try:
            while pending or running:
                while pending and len(running) < CHUNKS_AHEAD * schedule.workers:
                    chunk = pending.popleft()
                    running.append((chunk, self._submit(outputs, chunk, feed, schedule)))
                chunk, future = running.popleft()
                yield chunk, future.result()
        finally:  # if one fails, the others must not run alongside what is tried next
            for _, future in running:
                future.cancel()
            wait([future for _, future in running])

    def _submit(
        self, outputs: Sequence[str], chunk: slice, feed: Feed, schedule: Schedule
    ) -> Future[list[Array]]:
        session, pool = self._start_workers(schedule.workers)
        try:
            return submit(pool, self._run, session, outputs, chunk, feed)
        except RuntimeError:  # `run` goes on without workers
            raise
        except BaseException:  # an interrupt: the next run starts a new pool
            self._workers = None
            raise

    def _start_workers(self, count: int) -> tuple[Session, ThreadPoolExecutor]:
        assert self.open_worker is not None  # noqa: S101  schedules with workers come with it
        workers = self._workers = self._workers or (self.open_worker(), ThreadPoolExecutor(count))
        return workers

    def _run(
        self, session: Session, outputs: Sequence[str], chunk: slice, feed: Feed
    ) -> list[Array]:
        feeds, count, batch = feed(chunk), chunk.stop - chunk.start, self.fixed_batch
        if batch is None or batch == count:
            return session.run(outputs, feeds)
        zeros = self.zero_padded_inputs
        padded = {
            name: _pad_batch(value, batch, zero=name in zeros) if np.ndim(value) else value
            for name, value in feeds.items()
        }
        arrays = session.run(outputs, padded)
        return [array[:count] if len(array) == batch else array for array in arrays]

    def _halve_chunk(self, schedule: Schedule, error: BaseException) -> None:
        if self.fixed_batch is not None or schedule.inputs <= 1:
            count = self.fixed_batch or 1
            raise RunError(
                f"out of memory on {self.session.device} with {count} image{'' if count == 1 else 's'} at a "
                "time; use --device cpu, or a smaller image size"
            ) from error
        self.tuner, self._workers, self.chunk = None, None, max(1, schedule.chunk // 2)


def _even_chunks(start: int, stop: int, schedule: Schedule) -> list[slice]:
    """Chunks of nearly equal size, the same number for each worker, so that no chunk is small."""
    inputs = stop - start
    chunk_count = -(-inputs // schedule.chunk)
    even_count = min(inputs, -(-chunk_count // schedule.workers) * schedule.workers)
    edges = [start - (-inputs * i // even_count) for i in range(even_count + 1)]
    return [slice(a, b) for a, b in itertools.pairwise(edges)]


def _pad_batch(array: Array, count: int, *, zero: bool) -> Array:
    """The array (n, ...) with its last element, or zeros, repeated up to `count` elements."""
    last = np.zeros_like(array[-1:]) if zero else array[-1:]
    return np.concatenate([array, np.repeat(last, count - len(array), axis=0)])


def chunked_runner(
    session: Session,
    fixed_batch: int | None,
    chunk: int | None,
    zero_padded_inputs: frozenset[str],
    reopen: Callable[[int], Session] | None = None,
    times: object = None,
    on_measured: Callable[[object], None] | None = None,
) -> ChunkedRunner:
    """Runs of at most `chunk` inputs or, if `chunk` is None on a CPU, of the number that is measured to be
    fastest: `reopen` opens the model on a number of threads, `times` were measured before, and `on_measured`
    receives what is measured now.
    """
    zeros = zero_padded_inputs
    if chunk is not None or fixed_batch is not None or session.device.kind != "cpu":
        return ChunkedRunner(session, fixed_batch, chunk or CHUNK, zero_padded_inputs=zeros)
    workers = min(usable_cpus(), MAX_WORKERS) if reopen else 1
    threads = max(1, usable_cpus() // workers)
    return ChunkedRunner(
        session,
        tuner=Tuner.resume(schedules(workers), times),
        open_worker=(lambda: reopen(threads)) if reopen else None,
        on_measured=on_measured,
        zero_padded_inputs=zeros,
    )
