"""The process of a command, from its first moment to its last. Nothing is imported here that takes time."""

from __future__ import annotations

import os
import sys
import warnings
from typing import Any, cast

from onnxcam.cli import interrupts
from onnxcam.cli.said import say
from onnxcam.cli.streams import guard_streams


def main() -> None:
    """Run the command line of this process."""
    try:
        _prepare()
        _run()
    except KeyboardInterrupt:  # while the last lines of `_run` were busy with what ended it
        os._exit(interrupts.exit_code() or 130)


def _prepare() -> None:
    guard_streams()
    interrupts.listen()
    warnings.showwarning = cast(Any, _say_warning)
    # Maps are small: threads of NumPy's do not help, and where none may be started OpenBLAS raises SIGINT
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def _run() -> None:
    try:
        from onnxcam.cli.app import app

        app()
    except SystemExit:
        if (code := interrupts.exit_code()) is None:
            raise
        sys.exit(code)
    except BaseException:  # what libraries make of an interrupt: ImportError, SystemError
        if (code := interrupts.exit_code()) is None:
            raise
        say(interrupts.SENTENCE, err=True)
        sys.exit(code)
    finally:
        interrupts.leave()


def _say_warning(message: Warning | str, category: type[Warning], *_: Any) -> None:
    say(f"warning: {message} ({category.__name__})", err=True)
