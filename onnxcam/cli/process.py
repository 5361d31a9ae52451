"""The process of a command, from start to end. Modules that are slow to import are not imported here."""

from __future__ import annotations

import atexit
import os
import sys
import warnings
from typing import Any, cast

from onnxcam.cli import interrupts
from onnxcam.cli.output import say
from onnxcam.cli.streams import guard_streams
from onnxcam.errors import OnnxcamNotice


def main() -> None:
    """Run the command line of this process."""
    try:
        _prepare()
        _run()
    except KeyboardInterrupt:  # while `_run` handled an earlier exception
        os._exit(interrupts.exit_code() or 130)


def _prepare() -> None:
    guard_streams()
    interrupts.listen()
    atexit.register(
        interrupts.end_after_signal
    )  # the first to be registered is the last to be called
    warnings.showwarning = cast(Any, _print_warning)
    warnings.filterwarnings("ignore", category=OnnxcamNotice)  # commands print notices
    # Maps are small: threads of NumPy do not help, and OpenBLAS raises SIGINT if it cannot start them
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def _run() -> None:
    try:
        from onnxcam.cli.app import app

        app()
    except SystemExit:
        if (code := interrupts.exit_code()) is None:
            raise
        sys.exit(code)
    except BaseException:  # libraries turn an interrupt into others: ImportError, SystemError
        if (code := interrupts.exit_code()) is None:
            raise
        say(interrupts.SENTENCE, err=True)
        sys.exit(code)
    finally:
        interrupts.exit_on_signal()


def _print_warning(message: Warning | str, category: type[Warning], *_: Any) -> None:
    say(f"warning: {message} ({category.__name__})", err=True)
