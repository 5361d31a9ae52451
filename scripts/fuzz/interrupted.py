"""Runs that stop in the middle: at a system call, or between two lines of onnxcam."""

from __future__ import annotations

import errno
import json
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import Any
from unittest.mock import patch

import numpy as np
from PIL import Image

from scripts.fuzz.case import Case, WrongError
from scripts.fuzz.seeds import seed_models
from scripts.fuzz.shell import capture_command, run_command

WORDS = [
    "explain",
    "model.onnx",
    "a.png",
    "b.png",
    "-m",
    "grad-cam",
    "-o",
    "out",
    "--skip-existing",
    "-q",
]
EVENTS = {"open", "os.rename", "os.remove", "os.mkdir", "os.chmod", "os.listdir", "os.scandir"}
FILES = (
    *("atomic_write.py", "regular_files.py", "result_files.py"),
    *("explanation.py", "batch_job.py"),
)
FAILURES: tuple[Callable[[], BaseException], ...] = (
    InterruptedError,  # stands for Ctrl-C
    lambda: OSError(errno.ENOSPC, "No space left on device"),
    lambda: OSError(errno.EIO, "Input/output error"),
    lambda: PermissionError(errno.EACCES, "Permission denied"),
    lambda: MemoryError(),
)


class _Injection:
    """Raises at the nth event: a system call on files of the folder, or a line of onnxcam."""

    def __init__(self) -> None:
        self.left, self.make, self.folder = -1, FAILURES[0], ""
        self.thread = 0

    def audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.left < 0 or event not in EVENTS or threading.get_ident() != self.thread:
            return
        path = str(arguments[0]) if arguments else ""
        if "out" in Path(path).parts and not path.endswith((".py", ".pyc")):
            self.count()

    def count(self) -> None:
        self.left -= 1
        if self.left < 0:
            self.fail()

    def fail(self) -> None:
        """Raise, or send this process the signal of Ctrl-C, which raises."""
        error = self.make()
        if not isinstance(error, InterruptedError):
            raise error
        signal.raise_signal(signal.SIGINT)

    def trace(self, frame: Any, event: str, _: Any) -> Any:
        if (
            Path(frame.f_code.co_filename).name not in FILES
            or "onnxcam" not in frame.f_code.co_filename
        ):
            return None
        if event == "line" and self.left >= 0:
            self.count()
        return self.trace


class _NoThreads:
    """A pool on a system that starts no thread."""

    def __init__(self, *_: object) -> None:
        pass

    def submit(self, *_: object) -> None:
        raise RuntimeError("can't start new thread")

    def shutdown(self, *, wait: bool) -> None:
        pass


INJECTION = _Injection()


@lru_cache(maxsize=1)
def _install_audit_hook() -> None:
    sys.addaudithook(INJECTION.audit)


@contextmanager
def _interrupt(place: int, make: Callable[[], BaseException], *, lines: bool) -> Iterator[None]:
    _install_audit_hook()
    # in one thread, so that the same case always stops at the same place
    with (
        patch("onnxcam.explain.ahead.ThreadPoolExecutor", _NoThreads),
        _injection(place, make, lines),
    ):
        yield


@contextmanager
def _injection(place: int, make: Callable[[], BaseException], lines: bool) -> Iterator[None]:
    INJECTION.make, INJECTION.thread = make, threading.get_ident()
    before = sys.gettrace()
    try:
        if lines:
            sys.settrace(INJECTION.trace)
            with patch.object(INJECTION, "audit"):
                INJECTION.left = place
                yield
        else:
            INJECTION.left = place
            yield
    finally:
        INJECTION.left = -1
        sys.settrace(before)


def interrupted_run(draw: Random) -> Case:
    """An exception somewhere in a run; `--skip-existing` must then give what a fresh run gives."""
    lines = draw.random() < 0.5
    place = draw.randrange(400 if lines else 60)
    # nothing else can come between two lines
    make = FAILURES[0] if lines else draw.choice(FAILURES)
    twice = draw.random() < 0.3
    damage = draw.getrandbits(32) if draw.random() < 0.3 else None
    what = f"{make()!r} at {'line' if lines else 'call'} {place}"
    what += (", twice" if twice else "") + (", damaged" if damage else "")

    def run(folder: Path) -> None:
        write_images(folder)
        for _ in range(1 + twice):
            try:
                with _interrupt(place, make, lines=lines):
                    _, _, stderr_text = capture_command(WORDS, folder)
            except (KeyboardInterrupt, MemoryError, OSError) as error:
                if isinstance(error, OSError):
                    raise
            else:
                if "Traceback" in stderr_text:
                    raise WrongError(f"a traceback: {stderr_text[-300:]}")
        if damage is not None:
            _damage_results(folder / "out", Random(damage))
        run_command(WORDS, folder)
        _compare_results(folder / "out", _undisturbed_results())

    return Case(what, model_file(), run)


def _damage_results(out: Path, draw: Random) -> None:
    """Change the results of an earlier run: truncated, empty, or those of the other image."""
    files = sorted(
        path for path in out.glob("*") if path.is_file() and not path.name.startswith(".")
    )
    if not files:
        return
    path = draw.choice(files)
    content = path.read_bytes()
    match draw.randrange(5):
        case 0:
            path.write_bytes(b"")
        case 1:
            path.write_bytes(content[: len(content) // 2])
        case 2:
            path.write_bytes(bytes(len(content)))
        case 3 if path.suffix != ".json":
            path.unlink()
        case _ if path.suffix != ".json":
            other = draw.choice([file for file in files if file.suffix == path.suffix])
            path.write_bytes(other.read_bytes())


def model_file() -> dict[str, bytes]:
    """The model that is run, as a file of a case."""
    return {"model.onnx": seed_models()["softmax"]}


def write_images(folder: Path) -> None:
    """Two images of random pixels."""
    draw = np.random.default_rng(5)
    for name in ("a.png", "b.png"):
        Image.fromarray(draw.integers(0, 255, (8, 8, 3)).astype(np.uint8)).save(folder / name)


@lru_cache(maxsize=1)
def _undisturbed_results() -> dict[str, Any]:
    """The results of an undisturbed run, by name."""
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "model.onnx").write_bytes(model_file()["model.onnx"])
        write_images(folder)
        run_command(WORDS, folder)
        return _results(folder / "out")


def _results(out: Path) -> dict[str, Any]:
    results: dict[str, Any] = {}
    for path in sorted(out.iterdir()):
        if path.suffix == ".npz":
            with np.load(path) as arrays:
                results[path.name] = {name: arrays[name] for name in arrays.files}
        else:
            results[path.name] = path.read_bytes()
    return results


def _compare_results(out: Path, fresh: dict[str, Any]) -> None:
    results = _results(out)
    if results.keys() != fresh.keys():
        raise WrongError(f"files {sorted(results.keys() ^ fresh.keys())} are there or missing")
    for name, right in fresh.items():
        actual = results[name]
        if name.endswith(".npz"):
            same = all(np.allclose(actual[key], right[key], 1e-4, 1e-6) for key in right)
        elif name.endswith(".json"):
            same = _scores(actual) == _scores(right)
        else:
            same = actual == right
        if not same:
            raise WrongError(f"{name} is not that of a fresh run")


def _scores(content: bytes) -> Any:
    manifest = json.loads(content)
    return manifest["target"]["index"], round(manifest["target"]["score"], 4)
