"""Errors as one line, and their exit codes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

from typer import BadParameter, Exit
from typer.core import TyperGroup

from onnxcam.cli import interrupts
from onnxcam.cli.output import say
from onnxcam.cli.visible_text import visible
from onnxcam.errors import OnnxcamError, one_line

EXIT_ERROR, EXIT_INTERRUPTED = 2, 130
# Typer exports only this one of the errors in a command line; its base class covers them all
UsageError = cast(type[BadParameter], BadParameter.__bases__[0])


class ErrorReportingGroup(TyperGroup):
    """A group of commands that prints expected errors in one line."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the options before the command."""
        if not args:  # the help is an error of several lines
            return super().parse_args(ctx, args)
        with report_errors():
            return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run the requested command."""
        with report_errors():
            return super().invoke(ctx)


@contextmanager
def report_errors() -> Iterator[None]:
    """Errors of onnxcam: one line and exit code 2. Ctrl-C: 130. Any other exception is a bug and keeps its
    traceback.
    """
    try:
        yield
    except OnnxcamError as error:
        if interrupts.exit_code() is not None:  # the interrupt caused it
            raise _report_interrupt() from None
        say(f"error: {one_line(error)}", err=True)
        raise Exit(EXIT_ERROR) from error
    except UsageError as error:
        error.message = visible(error.message)
        raise
    except KeyboardInterrupt:
        raise _report_interrupt() from None


def _report_interrupt() -> Exit:
    say(interrupts.SENTENCE, err=True)
    return Exit(interrupts.exit_code() or EXIT_INTERRUPTED)
