"""What a user sees while pictures are explained: a line for each, and how far it is."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any

from typer import echo

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


class Watch:
    """Lines on standard output, a progress bar on standard error where that is a terminal."""

    def __init__(self, total: int, *, quiet: bool, json: bool) -> None:
        self.quiet, self.json, self.total = quiet, json, total
        self._bar: Progress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> Watch:
        if not self.quiet and sys.stderr.isatty():
            self._bar = _bar()
            self._task = self._bar.add_task("explaining", total=self.total)
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def passes(self, count: int) -> None:
        """So many more inputs of the model were run."""
        if self._bar is not None and self._task is not None:
            self._bar.advance(self._task, count)

    def picture(self, name: str, passes: int) -> None:
        """The next picture; before it there were so many passes, run or left out."""
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, description=name, completed=passes)

    def record(self, record: Mapping[str, Any], line: str) -> None:
        """What there is to say of one picture and target."""
        if self.json:
            self._out(json.dumps(record))
        elif not self.quiet:
            self._out(line)

    def note(self, text: str) -> None:
        """Something to know, beside the results."""
        if self._bar is not None:
            self._bar.console.print(text, markup=False, highlight=False, soft_wrap=True)
        elif not self.quiet:
            echo(text, err=True)

    def _out(self, line: str) -> None:
        if self._bar is not None and sys.stdout.isatty():  # above the bar, not into it
            self._bar.console.print(line, markup=False, highlight=False, soft_wrap=True)
        else:
            echo(line)


def _bar() -> Progress:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
    )

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )
