"""Calls that threads make ahead of when their results are needed, in order, and a bounded number of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from threading import Lock
from typing import Generic, TypeVar

from onnxcam.runtime.fork import abandon, watch
from onnxcam.runtime.threads import submit

Value = TypeVar("Value")
Result = TypeVar("Result")


class Call(Generic[Value, Result]):
    """A call that is made once, by whichever thread begins it first."""

    def __init__(self, function: Callable[[Value], Result], value: Value) -> None:
        self.value = value
        self._function = function
        self._begun = Lock()
        self._future: Future[Result] = Future()

    def make(self) -> None:
        """Make the call, unless it has begun or was canceled."""
        if not self._begun.acquire(blocking=False):
            return
        try:
            self._future.set_result(self._function(self.value))
        except BaseException as error:  # noqa: BLE001  raised by `result`
            self._future.set_exception(error)

    def cancel(self) -> bool:
        """Whether the call had not begun; it is never made then."""
        return self._begun.acquire(blocking=False)

    def again(self) -> Call[Value, Result]:
        """The same call, made anew unless it is done."""
        return self if self._future.done() else Call(self._function, self.value)

    @property
    def is_done(self) -> bool:
        """Whether the result, or an exception, is there."""
        return self._future.done()

    def result(self) -> Result:
        """What the function returned or raised, as soon as a thread has made the call."""
        return self._future.result()

    def wait(self) -> None:
        """Wait until a call that has begun is done."""
        wait([self._future])


class OrderedCalls(Generic[Value, Result]):
    """Calls of a function by `threads`, whose results are taken in the order in which they were submitted.

    Where the system starts no thread, and in a forked process, the calls are made when their results are taken.
    """

    def __init__(self, function: Callable[[Value], Result], threads: int) -> None:
        self._function = function
        self._pool: ThreadPoolExecutor | None = ThreadPoolExecutor(threads, "onnxcam")
        self._calls: deque[Call[Value, Result]] = deque()
        self._own: Call[Value, Result] | None = None  # the last that was made here, not by a thread
        watch(self)

    def renew(self) -> None:
        """Leave the threads to the process that has them."""
        abandon(self._pool)
        self._pool = None
        self._calls = deque(call.again() for call in self._calls)

    def __len__(self) -> int:
        return len(self._calls)

    @property
    def is_next_done(self) -> bool:
        """Whether the next result can be taken without waiting."""
        return bool(self._calls) and self._calls[0].is_done

    def submit(self, value: Value) -> None:
        """Call the function in a thread."""
        call = Call(self._function, value)
        self._calls.append(call)
        if self._pool is not None:
            try:
                submit(self._pool, call.make)
            except RuntimeError:  # no thread can be started
                self._pool = None

    def take(self) -> tuple[Value, Result]:
        """The next value and its result. Raises what the function raised for it. If the wait is interrupted, it
        is still the next.
        """
        call = self._calls[0]
        if self._pool is None:
            self._own = call
            call.make()
        try:
            result = call.result()
        except Exception:
            self._calls.popleft()
            raise
        self._calls.popleft()
        return call.value, result

    def close(self) -> list[tuple[Value, Result]]:
        """Cancel the calls that have not begun, wait for the others, and return their results, except those
        that raised an exception.
        """
        begun = [call for call in self._calls if not call.cancel()]
        self._calls.clear()
        self._stop_threads()
        finished = []
        for call in begun:
            if call is self._own and not call.is_done:  # it was interrupted before it could begin
                continue
            call.wait()
            with suppress(Exception):
                finished.append((call.value, call.result()))
        return finished

    def leave(self) -> None:
        """Cancel the calls that have not begun, without waiting for the others."""
        for call in self._calls:
            call.cancel()
        self._calls.clear()
        self._stop_threads()

    def _stop_threads(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=False)
            self._pool = None


def map_ahead(
    function: Callable[[Value], Result],
    values: Iterable[Value],
    *,
    threads: int,
    has_room: Callable[[int], bool],
) -> Iterator[Result]:
    """The results of a function for values, in order, computed by threads while earlier ones are used.

    The next value is taken while `has_room`, which gets the number of calls that wait, is true, or if none
    waits. An exception of the function, or of the values, is raised in its turn.
    """
    calls: OrderedCalls[Value, Result] = OrderedCalls(function, threads)
    remaining = iter(values)
    end: Exception | None = None
    try:
        while True:
            while end is None and (not calls or has_room(len(calls))):
                try:
                    calls.submit(next(remaining))
                except Exception as error:  # noqa: BLE001  raised below
                    end = error
            if calls:
                yield calls.take()[1]
            elif isinstance(end, StopIteration):
                return
            elif end is not None:
                raise end
    finally:
        calls.leave()
