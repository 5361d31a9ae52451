"""Stops a program at one of its steps on the disk: as a kill does, as Ctrl-C does, or by a failing disk."""

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
    """Counts steps, and stops at the one of a number: before it, or after it (a write: when half is there)."""

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
def interrupted(stop: int, cause: str, *, late: bool) -> Iterator[Disk]:
    """Inside, the step on the disk of this number is the one that is interrupted; the exception is caught."""
    disk = Disk(stop, late, cause)

    def stepping(function: Callable[..., Any]) -> Callable[..., Any]:
        def step(*words: Any, **more: Any) -> Any:
            def act() -> Any:
                return function(*words, **more)

            return disk.step(act, act)

        return step

    def opening(path: Any, flags: int, *words: Any, **more: Any) -> int:
        if not flags & os.O_CREAT:
            return os_open(path, flags, *words, **more)

        def half() -> None:
            os.close(os_open(path, flags, *words, **more))

        return disk.step(lambda: os_open(path, flags, *words, **more), half)

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
