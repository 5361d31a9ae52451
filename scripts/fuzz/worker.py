"""The process that runs cases (a name in, an ending out, one line of JSON each), and its parent, which restarts
it when it dies or hangs.
"""

from __future__ import annotations

import json
import os
import resource
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = ("-m", "scripts.fuzz.worker")
MB = 1 << 20
SPACE = 6_000 * MB  # bytes of address space; a warm worker has 1 GB
GROWTH = 1_500 * MB  # bytes of memory that one case may take
LIMIT = 20.0  # seconds
START = 120.0  # seconds that a worker may take to be ready


class DiedError(Exception):
    """The worker died; the message says why."""


class HungError(Exception):
    """The worker took longer than the limit and was killed."""


class Worker:
    """A process that runs cases, started when it is first needed and restarted after it dies."""

    def __init__(
        self, seed: int, log: Path, limit: float = LIMIT, program: Sequence[str] = PROGRAM
    ) -> None:
        self.seed, self.log, self.limit, self.program = seed, log, limit, program
        self.is_in_plain_run = False
        self.process: subprocess.Popen[bytes] | None = None

    def run(self, name: str, how: str = "run", folder: Path = Path()) -> dict[str, Any]:
        """The ending of a case, or with "plain" of the runtime alone; with "store" only write its files into
        the folder. DiedError, HungError.
        """
        process = self.process or self._start()
        assert process.stdin
        process.stdin.write(json.dumps([name, how, str(folder.resolve())]).encode() + b"\n")
        process.stdin.flush()
        self.is_in_plain_run = False
        while isinstance(answer := json.loads(self._line(self.limit)), str):  # whose work begins
            self.is_in_plain_run = answer == "plain"
        return dict(answer)

    def end(self) -> None:
        """End the process."""
        if self.process:
            self.process.kill()
            self.process.communicate()
            self.process = None

    def _start(self) -> subprocess.Popen[bytes]:
        paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, *self.program, str(self.seed)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))},
            )
        self._line(START)
        return self.process

    def _line(self, limit: float) -> bytes:
        assert self.process
        assert self.process.stdout
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            if not selector.select(limit):
                self.end()
                raise HungError(f"longer than {limit:.0f} s")
        if line := self.process.stdout.readline():
            return line
        code = self.process.wait()
        self.end()
        why = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        raise DiedError(why)


def main() -> None:
    """Run the cases that standard input names."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # other output must not mix with the answers
    resource.setrlimit(resource.RLIMIT_AS, (SPACE, SPACE))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with tempfile.TemporaryDirectory(prefix="onnxcam-fuzz-") as root:
        os.environ["ONNXCAM_CACHE"] = str(Path(root, "cache"))
        import onnxcam.explain.explainer  # noqa: F401  with the filters of warnings that users have, too
        from scripts.fuzz.case import Phase
        from scripts.fuzz.kinds import case_of  # these imports take seconds

        def tell(answer: Any) -> None:
            answers.write(json.dumps(answer) + "\n")
            answers.flush()

        Phase.announce = staticmethod(tell)
        tell("ready")
        for line in sys.stdin:
            name, how, folder = json.loads(line)
            try:
                case = case_of(name, int(sys.argv[1]))
            except Exception as error:  # noqa: BLE001  the others go on
                tell({"outcome": "no case", "detail": repr(error), "what": ""})
            else:
                tell(
                    _store(case, Path(folder)) if how == "store" else _answer(case, Path(root), how)
                )


def _store(case: Any, folder: Path) -> dict[str, Any]:
    from scripts.fuzz.case import write_files

    write_files(case, folder)
    return {"what": case.what, "outcome": "stored"}


def _answer(case: Any, root: Path, how: str) -> dict[str, Any]:
    from scripts.fuzz.case import ending_of, write_files

    start, before = time.perf_counter(), _peak()
    with tempfile.TemporaryDirectory(dir=root, ignore_cleanup_errors=True) as name:
        folder = Path(name)
        write_files(case, folder)
        if how == "plain":
            _run_plain(case, folder)
            return {}
        ending = asdict(ending_of(case, folder))
    grown = _peak() - before
    if grown > GROWTH:
        ending |= {"outcome": "memory", "detail": f"{grown / MB:.0f} MB; {ending['detail']}"[:300]}
    return {**ending, "what": case.what, "seconds": round(time.perf_counter() - start, 3)}


def _run_plain(case: Any, folder: Path) -> None:
    if case.plain:
        with suppress(Exception):  # only whether it hangs or dies counts
            case.plain(folder)


def _peak() -> int:
    """The peak memory of this process, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main()
