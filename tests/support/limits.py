"""Run code that may hang or exhaust the memory in a separate process with limits on both."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# Of address space, which a thread of each processor would take a lot of otherwise
SMALL = {"OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"}


def run_limited(
    code_or_argv: str | Sequence[str], *, seconds: float = 30, megabytes: int = 4096
) -> subprocess.CompletedProcess[str]:
    """Python code, or the words after `python`, run with at most so much time and address space.

    A process that takes longer is killed, and `subprocess.TimeoutExpired` raised; one that wants more
    memory meets a MemoryError.
    """
    words = ["-c", code_or_argv] if isinstance(code_or_argv, str) else list(map(str, code_or_argv))
    limit = megabytes << 20
    return subprocess.run(
        [sys.executable, *words],
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
        env={**SMALL, **os.environ, "PYTHONPATH": str(ROOT)},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
    )
