"""Calls by the threads of a pool, in a process that may be interrupted at any moment."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

Result = TypeVar("Result")


def submit(
    pool: ThreadPoolExecutor, function: Callable[..., Result], *arguments: Any
) -> Future[Result]:
    """Call the function in a thread of the pool. If that raises an exception, the pool is shut down.

    Python's pool registers a thread after it has started it. If an interrupt comes in between, nothing tells
    that thread to end, and the process would wait for it forever when it exits; a pool that is shut down does.
    """
    try:
        return pool.submit(function, *arguments)
    except BaseException:
        pool.shutdown(wait=False)
        raise
