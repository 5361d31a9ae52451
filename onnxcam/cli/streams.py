"""Standard output and standard error: control characters are escaped, and failed writes are handled."""

from __future__ import annotations

import io
import os
import select
import sys
from contextlib import suppress
from typing import Any, TextIO

from onnxcam.cli.visible_text import visible_lines

EXIT_LOST, BROKEN_PIPE = 2, 141  # exit codes; in a shell, 141 means that SIGPIPE ended the process
STREAMS = (("stdin", "r", os.O_RDONLY), ("stdout", "w", os.O_RDONLY), ("stderr", "w", os.O_WRONLY))


class GuardedStream(io.TextIOWrapper):
    """A standard stream that escapes control characters, except those in our own codes."""

    def write(self, text: str) -> int:
        """Write text of any origin."""
        self.write_styled(visible_lines(text))
        return len(text)

    def write_styled(self, text: str) -> int:
        """Write text that is known to be harmless."""
        return super().write(text)


class GuardedFile(io.FileIO):
    """The file under a standard stream: a failed write never ends in a traceback.

    If standard error is closed, full, or broken, work continues without it. For standard output this is an
    error with exit code 2; if its reader has exited (`| head -1`), the process ends as quietly as by SIGPIPE.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor, "w", closefd=False)

    def write(self, data: Any) -> int:
        """Write bytes; wait for a slow reader."""
        try:
            while (count := super().write(data)) is None:
                select.select([], [self], [])
        except OSError as failure:
            _handle_failed_write(self.fileno(), failure)
            return memoryview(data).nbytes
        return count


class StyledStream:
    """A stream for a library that draws with control codes; make names `visible` before it gets them."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.write = getattr(stream, "write_styled", stream.write)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def guard_streams() -> None:
    """Replace the standard streams of this process with guarded ones.

    Closed ones are opened first: otherwise the next file would get their number, and what libraries print
    would end up in it. Standard output is then opened for reading only, so that writes fail as on a closed one.
    """
    for name, mode, flags in STREAMS:
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.open(os.devnull, flags), mode))  # noqa: SIM115, PTH123
    sys.stdout, sys.stderr = _guard(sys.stdout), _guard(sys.stderr)


def flush() -> None:
    """Write what the standard streams hold back; a write that fails is ignored."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception, SystemExit):
            stream.flush()


def _guard(stream: TextIO) -> TextIO:
    if not isinstance(stream, io.TextIOWrapper):
        return stream
    encoding, buffer = stream.encoding, stream.buffer
    file = getattr(buffer, "raw", buffer)  # with PYTHONUNBUFFERED there is no buffer
    if isinstance(file, io.FileIO):  # otherwise it is a Windows console
        buffer = io.BufferedWriter(GuardedFile(stream.fileno()))
    stream.flush()
    _originals.append(stream)
    # the terminal's encoding may not have all characters of a file name
    return GuardedStream(buffer, encoding, "backslashreplace", line_buffering=True)


_originals: list[TextIO] = []  # kept alive, as they close their files when they are deleted


def _handle_failed_write(descriptor: int, failure: OSError) -> None:
    null_device = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null_device, descriptor)  # which takes what is still in the buffer, now and at exit
    os.close(null_device)
    if descriptor == sys.stderr.fileno():
        return
    if isinstance(failure, BrokenPipeError):
        raise SystemExit(BROKEN_PIPE)
    sys.stderr.write(f"error: cannot write to standard output ({failure.strerror})\n")
    raise SystemExit(EXIT_LOST)
