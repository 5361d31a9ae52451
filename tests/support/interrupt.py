"""Stop a program at one of its disk operations, like a kill, Ctrl-C, or a failing disk."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch


class Killed(BaseException):
    """The process is dead: whatever it tries on the disk from now on has no effect."""


CAUSES: dict[str, Callable[[], BaseException]] = {
    "killed": Killed,
    "Ctrl-C": KeyboardInterrupt,
    "full disk": lambda: OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
    "read-only disk": lambda: OSError(errno.EROFS, os.strerror(errno.EROFS)),
}


@dataclass
class Disk:
    """Counts steps, and stops before step number `stop`, or `late`: after it (a write: after half of it)."""

    stop: int
    late: bool
    cause: str
    steps: int = 0
    dead: bool = False

    @property
    def stopped(self) -> bool:
        return self.steps >= self.stop

    def step(self, act: Callable[[], Any], half: Callable[[], Any]) -> Any:
        if self.dead:
            raise Killed
        self.steps += 1
        if self.steps != self.stop:
            return act()
        if self.late:
            half()
        self.dead = self.cause == "killed"
        raise CAUSES[self.cause]()


@contextmanager
def interrupt_step(stop: int, cause: str, *, late: bool) -> Iterator[Disk]:
    """Inside, the disk step number `stop` is interrupted; the exception is caught."""
    disk = Disk(stop, late, cause)

    def stepping(function: Callable[..., Any]) -> Callable[..., Any]:
        def step(*words: Any, **options: Any) -> Any:
            def act() -> Any:
                return function(*words, **options)

            return disk.step(act, act)

        return step

    def opening(path: Any, flags: int, *words: Any, **options: Any) -> int:
        if not flags & os.O_CREAT:
            return os_open(path, flags, *words, **options)

        def half() -> None:
            os.close(os_open(path, flags, *words, **options))

        return disk.step(lambda: os_open(path, flags, *words, **options), half)

    def writing(path: Path, content: bytes) -> int:
        return disk.step(
            lambda: write_bytes(path, content),
            lambda: write_bytes(path, content[: len(content) // 2]),
        )

    os_open, write_bytes = os.open, Path.write_bytes
    with (
        patch("os.open", opening),
        patch.object(Path, "write_bytes", writing),
        patch("os.replace", stepping(os.replace)),
        patch("os.unlink", stepping(os.unlink)),
        suppress(Killed, KeyboardInterrupt),
    ):
        yield disk
