"""Standard output and standard error: what they show, and what happens where nobody takes it."""

from __future__ import annotations

import io
import os
import select
import sys
from typing import Any, TextIO

from onnxcam.cli.visible import visible_lines

LOST, BROKEN_PIPE = 2, 141  # exit codes; 141 is what a shell says of a process that SIGPIPE ended
STREAMS = (("stdin", "r", os.O_RDONLY), ("stdout", "w", os.O_RDONLY), ("stderr", "w", os.O_WRONLY))


class GuardedStream(io.TextIOWrapper):
    """A standard stream that spells out control characters, but for those in codes of our own."""

    def write(self, text: str) -> int:
        """Write text of any origin."""
        self.write_styled(visible_lines(text))
        return len(text)

    def write_styled(self, text: str) -> int:
        """Write text that is known to be harmless."""
        return super().write(text)


class GuardedFile(io.FileIO):
    """The file below a standard stream: what it does not take never ends in a traceback.

    Where standard error is closed, full or broken the work goes on without it. Of standard output that is an
    error, exit code 2, and a reader that has gone away (`| head -1`) ends the process as quietly as SIGPIPE.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor, "w", closefd=False)

    def write(self, data: Any) -> int:
        """Write bytes; where the other side reads slowly, wait for it."""
        try:
            while (count := super().write(data)) is None:
                select.select([], [self], [])
        except OSError as failure:
            _lose(self.fileno(), failure)
            return memoryview(data).nbytes
        return count


class Styled:
    """A stream whose codes come from a library that draws; names within must be `visible` before."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.write = getattr(stream, "write_styled", stream.write)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def guard_streams() -> None:
    """Replace the standard streams of this process by guarded ones.

    Those that were closed are opened first: the next file would get their number, and with it what libraries
    print. Standard output is then open for reading only, so that a write fails as on a closed one.
    """
    for name, mode, flags in STREAMS:
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.open(os.devnull, flags), mode))  # noqa: SIM115, PTH123
    sys.stdout, sys.stderr = _guarded(sys.stdout), _guarded(sys.stderr)


def _guarded(stream: TextIO) -> TextIO:
    if not isinstance(stream, io.TextIOWrapper):
        return stream
    encoding, buffer = stream.encoding, stream.buffer
    file = getattr(buffer, "raw", buffer)  # PYTHONUNBUFFERED leaves out the buffer
    if isinstance(file, io.FileIO):  # else it is a console of Windows
        buffer = io.BufferedWriter(GuardedFile(stream.fileno()))
    stream.flush()
    _originals.append(stream)
    # a file name need not fit the terminal's encoding
    return GuardedStream(buffer, encoding, "backslashreplace", line_buffering=True)


_originals: list[TextIO] = []  # they would close their files if nobody held them


def _lose(descriptor: int, failure: OSError) -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)  # takes what is still in the buffer, now and at exit
    os.close(nowhere)
    if descriptor == sys.stderr.fileno():
        return
    if isinstance(failure, BrokenPipeError):
        raise SystemExit(BROKEN_PIPE)
    sys.stderr.write(f"error: standard output cannot be written ({failure.strerror})\n")
    raise SystemExit(LOST)
