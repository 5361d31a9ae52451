"""What a user sees while images are explained: a line for each result, and a progress bar."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, TextIO, cast

from onnxcam.cli.output import json_text, say
from onnxcam.cli.streams import StyledStream
from onnxcam.cli.visible_text import visible

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

REFRESH = 0.1  # seconds between drawings of the bar


class ProgressReporter:
    """Lines on standard output, a progress bar on standard error where that is a terminal."""

    def __init__(self, total: int, *, quiet: bool, json: bool, action: str = "explaining") -> None:
        self.quiet, self.json, self.total, self.action = quiet, json, total, action
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._drawn = 0.0

    def __enter__(self) -> ProgressReporter:
        if not self.quiet and sys.stderr.isatty():
            self._bar = _make_bar()
            self._task = self._bar.add_task(self.action, total=self.total)
            try:
                self._bar.start()
            except BaseException:  # an interrupt: the cursor is hidden by now
                self._close()
                raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def advance(self, count: int) -> None:
        """Count this many more inputs of the model as run."""
        if self._bar is not None and self._task is not None:
            self._bar.advance(self._task, count)
            self._draw()

    def start_image(self, name: str, passes: int, total: int | None = None) -> None:
        """Show the name of the next image; `passes` inputs were run or skipped before it, of the `total`, if it
        has changed.
        """
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, description=visible(name), completed=passes, total=total)
            self._draw()

    def _draw(self) -> None:
        """Draw the bar without a thread (Rich's default), which the system may be unable to start."""
        now = time.monotonic()
        if self._bar is not None and now - self._drawn >= REFRESH:
            self._drawn = now
            self._bar.refresh()

    def report(self, record: Mapping[str, Any], line: str) -> None:
        """Print the result of one image and target: the record as JSON, or else the line."""
        if self.json:
            self._print(json_text(record))
        elif not self.quiet:
            self._print(line)

    def note(self, text: str) -> None:
        """Print a notice on standard error."""
        if self._bar is not None:
            self._print_above_bar(text)
        elif not self.quiet:
            say(text, err=True)

    def _print(self, line: str) -> None:
        if self._bar is not None and sys.stdout.isatty():
            self._print_above_bar(line)
        else:
            say(line)

    def _print_above_bar(self, line: str) -> None:
        if self._bar is not None:
            self._bar.console.print(visible(line), markup=False, highlight=False, soft_wrap=True)


def _make_bar() -> Progress:
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
        TextColumn("{task.completed:.0f} of {task.total:.0f} runs", markup=False),
        TimeRemainingColumn(),
        console=Console(file=cast(TextIO, StyledStream(sys.stderr))),
        auto_refresh=False,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )
