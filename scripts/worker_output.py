"""What worker processes print, line by line."""

from __future__ import annotations

import subprocess
import threading


def read_line(worker: subprocess.Popen[str], seconds: float) -> str:
    """The next line of a worker, "" at its end; a worker that is silent for so many seconds is killed."""
    assert worker.stdout is not None
    timer = threading.Timer(seconds, worker.kill)
    timer.start()
    try:
        return worker.stdout.readline()
    finally:
        timer.cancel()
