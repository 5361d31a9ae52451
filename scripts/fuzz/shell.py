"""The command line, run in this process."""

from __future__ import annotations

import io
import os
import re
import signal
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

from onnxcam.errors import OnnxcamError, UnforeseenError
from scripts.fuzz.case import WarnedError, WrongError

FORESEEN = {0, 1, 2, 130}
UNFORESEEN = "onnxcam failed ("  # from the message of an UnforeseenError


class RefusedError(OnnxcamError):
    """The command line said one line and ended with 2."""


@contextmanager
def working_in(folder: Path) -> Iterator[None]:
    """Work in a folder."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def run_command(arguments: list[str], folder: Path) -> tuple[int, str]:
    """The exit code and standard error; RefusedError or UnforeseenError for code 2, WrongError for anything
    that users should not see.
    """
    code, out, stderr_text = capture_command(arguments, folder)
    if code not in FORESEEN:
        raise WrongError(f"exit code {code}: {stderr_text[-200:]}")
    if "Traceback" in stderr_text:
        raise WrongError(f"a traceback: {stderr_text[-300:]}")
    if "\x1b" in out + stderr_text or "\u202e" in out + stderr_text:
        raise WrongError("a control character from the input reached the terminal")
    if warning := re.search(r"^warning: .*Warning\)$", stderr_text, re.MULTILINE):
        raise WarnedError(warning.group())
    if code == 2:
        words = stderr_text.strip() or out.strip()
        if not words:
            raise WrongError("exit code 2 without a message")
        raise (UnforeseenError if UNFORESEEN in words else RefusedError)(words[-400:])
    return code, stderr_text


class _Screen(io.BytesIO):
    """Bytes that stay readable after their wrapper is gone."""

    def close(self) -> None:
        """Do nothing: the bytes are read later."""


@contextmanager
def restored_process_state() -> Iterator[None]:
    """Undo what a command changes in its process."""
    numbers = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM]
    handlers = {number: signal.getsignal(number) for number in numbers}
    hooks = sys.excepthook, sys.unraisablehook
    try:
        with warnings.catch_warnings():
            yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        sys.excepthook, sys.unraisablehook = hooks


def capture_command(arguments: list[str], folder: Path) -> tuple[int, str, str]:
    """The exit code, standard output and standard error of a command."""
    from onnxcam.cli import main

    screens = _Screen(), _Screen()
    streams = [io.TextIOWrapper(screen, encoding="utf-8", write_through=True) for screen in screens]
    with (
        working_in(folder),
        restored_process_state(),
        patch.object(sys, "argv", ["onnxcam", *arguments]),
        patch.object(sys, "stdout", streams[0]),
        patch.object(sys, "stderr", streams[1]),
    ):
        try:
            code: object = main()  # type: ignore[func-returns-value]
        except SystemExit as end:
            code = end.code
        sys.stdout.flush()
        sys.stderr.flush()
    out, stderr_text = (screen.getvalue().decode("utf-8", "replace") for screen in screens)
    return int(code or 0) if isinstance(code, int | None) else 1, out, stderr_text
