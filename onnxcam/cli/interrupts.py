"""Ctrl-C and similar signals: one sentence and an exit code, whenever they arrive."""

from __future__ import annotations

import os
import signal
import sys
import time
from types import FrameType
from typing import Any

from onnxcam.cli.streams import flush

SENTENCE = "interrupted; all files written so far are complete"
NAMES = ("SIGINT", "SIGTERM", "SIGHUP")  # the last two would end the process without cleaning up
GRACE = (
    1.0  # seconds in which a wrapper process may pass on the Ctrl-C that the terminal already sent
)
RETRY_DELAY = 0.02  # seconds until an interrupt that a library swallowed is raised again
_received: list[tuple[int, float]] = []  # the first signal, and when it came


def listen() -> None:
    """Make the signals raise KeyboardInterrupt from now on; ignored ones (nohup, `&`) stay ignored."""
    _received.clear()
    for number in _handled_signals():
        signal.signal(number, _receive)
    sys.excepthook, sys.unraisablehook = _print_error, _print_unraisable


def exit_code() -> int | None:
    """128 + the number of the signal that arrived, as in shells; None if no signal arrived."""
    return 128 + _received[0][0] if _received else None


def stop_raising() -> None:
    """Do not raise an interrupt again that was raised already: what is done is reported now."""
    if exit_code() is not None and hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, 0)


def end_after_signal() -> None:
    """End the process now if a signal arrived. To be registered with `atexit`: threads have ended then and
    files are closed, but libraries that were interrupted while they started may crash when they are unloaded.
    """
    if (code := exit_code()) is not None:
        flush()
        os._exit(code)


def exit_on_signal() -> None:
    """Make a signal end the process at once from now on, because all work is done."""
    for number in _handled_signals():
        signal.signal(number, lambda number, _: os._exit(128 + number))
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, 0)


def _handled_signals() -> list[int]:
    numbers = [getattr(signal, name) for name in NAMES if hasattr(signal, name)]
    return [number for number in numbers if signal.getsignal(number) not in (signal.SIG_IGN, None)]


def _receive(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
    if not _received:
        _received.append((number, time.monotonic()))
        raise KeyboardInterrupt
    first, received_at = _received[0]
    if time.monotonic() - received_at > GRACE:
        os._exit(128 + first)


def _raise_again(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
    raise KeyboardInterrupt


def _print_error(kind: type[BaseException], error: BaseException, traceback: Any) -> None:
    """Print all but interrupts, which C code prints before it raises another error (NumPy's import)."""
    if not issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, traceback)


def _print_unraisable(hook_args: Any) -> None:
    """Raise an interrupt in a destructor or a callback again a little later: it cannot be raised there."""
    if not issubclass(hook_args.exc_type, KeyboardInterrupt):
        sys.__unraisablehook__(hook_args)
    elif hasattr(signal, "setitimer"):
        signal.signal(signal.SIGALRM, _raise_again)
        signal.setitimer(signal.ITIMER_REAL, RETRY_DELAY)
