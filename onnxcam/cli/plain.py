"""Errors as one line, and their exit codes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from typer import Exit, echo
from typer.core import TyperGroup

from onnxcam.errors import OnnxcamError

WRONG, INTERRUPTED = 2, 130


class PlainErrors(TyperGroup):
    """A group of commands whose foreseen errors are said in one line."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was asked for."""
        with told_plainly():
            return super().invoke(ctx)


@contextmanager
def told_plainly() -> Iterator[None]:
    """Ours: one line and exit code 2. Ctrl-C: 130. Any other exception is a bug and keeps its traceback."""
    try:
        yield
    except OnnxcamError as fault:
        echo(f"error: {one_line(fault)}", err=True)
        raise Exit(WRONG) from fault
    except KeyboardInterrupt:
        echo("interrupted; what was written is whole", err=True)
        raise Exit(INTERRUPTED) from None


def one_line(fault: BaseException) -> str:
    """What an error says, on one line."""
    return " ".join(each.strip() for each in str(fault).splitlines() if each.strip())
