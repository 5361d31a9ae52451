"""Run a file on the runtimes that are installed, and compare what they return with ONNX Runtime."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from onnxcam.arrays import Array
from onnxcam.errors import LONGEST_LINE, RunError
from onnxcam.portability.feeds import fill_feeds
from onnxcam.portability.foreign_runtime import Arrays, ForeignRuntime
from onnxcam.portability.runtimes import choose_runtimes
from onnxcam.portability.runtimes.onnx_runtime import NAME as REFERENCE

TOLERANCE = 1e-3  # of the largest number of an output
GRAY_LEVELS = 2  # that a uint8 may be off
SECONDS = 300  # for a runtime to load a file and run it once


@dataclass(frozen=True)
class Comparison:
    """What a runtime returned for one output, or why it returned nothing.

    Attributes:
        difference: the largest difference from ONNX Runtime, as a part of its largest number; NaN for none.
        is_right: whether that is within the tolerance; None for a runtime that is not installed.
        note: why there is no difference: the refusal, or what installs the runtime.
    """

    runtime: str
    version: str = ""
    output: str = ""
    difference: float = float("nan")
    is_right: bool | None = None
    note: str = ""


def check_runtimes(
    path: str | Path,
    names: Sequence[str],
    feeds: Mapping[str, Array] | None = None,
    *,
    batch: int = 1,
    seed: int = 0,
    tolerance: float = TOLERANCE,
    node_modules: Path | None = None,
    seconds: float = SECONDS,
) -> list[Comparison]:
    """Run an .onnx file on runtimes and compare all outputs with those of ONNX Runtime.

    Args:
        path: the file.
        names: the runtimes: names in `RUNTIMES`, or `all`.
        feeds: values of inputs, by name. The others are drawn at random, with the `seed`.
        batch: how many images, where the file leaves it open.
        tolerance: of floats, as a part of the largest number of the output. Integers must be equal, uint8
            within two gray levels.
        node_modules: the folder with npm's packages.
        seconds: for how long each of them may run.

    Each runs in a process of its own. Nothing is installed. Raises UnknownNameError for an unknown runtime,
    ModelError or RunError if ONNX Runtime itself does not run the file.
    """
    path = Path(path)
    runtimes = choose_runtimes(names)
    values, outputs = fill_feeds(path, feeds, batch, seed)
    with tempfile.TemporaryDirectory() as name:
        runner = _Runner(path, values, outputs, Path(name), node_modules, seconds)
        expected = runner.run(REFERENCE)
        if expected.refusal:
            raise RunError(f"ONNX Runtime does not run {path.name}: {expected.refusal}")
        rows: list[Comparison] = []
        for name, runtime in runtimes.items():
            rows += _compare(name, runtime, runner, expected.arrays, tolerance)
    return rows


@dataclass(frozen=True)
class _Result:
    arrays: Arrays
    version: str = ""
    refusal: str = ""


@dataclass(frozen=True)
class _Runner:
    """Runs one file with the same inputs in processes."""

    path: Path
    feeds: Arrays
    outputs: Sequence[str]
    folder: Path
    node_modules: Path | None
    seconds: float

    def run(self, runtime: str) -> _Result:
        """What one runtime returns."""
        folder = self.folder / runtime
        folder.mkdir(exist_ok=True)
        np.savez(folder / "feeds.npz", *self.feeds.values())
        job = {
            "runtime": runtime,
            "model": str(self.path.resolve()),
            "inputs": [*self.feeds],
            "outputs": [*self.outputs],
            "node_modules": str(self.node_modules.resolve()) if self.node_modules else "",
        }
        (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
        ending = _run_process(folder / "job.json", self.seconds)
        if not (folder / "report.json").is_file():
            return _Result({}, refusal=ending or "its process ended without a result")
        report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
        if report["refusal"]:
            return _Result({}, report["version"], report["refusal"])
        with np.load(folder / "results.npz") as arrays:
            results = dict(zip(report["outputs"], arrays.values(), strict=True))
        return _Result(results, report["version"])


def _run_process(job: Path, seconds: float) -> str:
    """Run a job; returns how its process ended if that was not as it should be."""
    command = [sys.executable, "-m", "onnxcam.portability.child", str(job)]
    package = Path(__file__).resolve().parents[2]
    path = os.pathsep.join(filter(None, [str(package), os.environ.get("PYTHONPATH")]))
    try:
        finished = subprocess.run(  # noqa: S603  our own module
            command,
            capture_output=True,
            timeout=seconds,
            check=False,
            env={**os.environ, "PYTHONPATH": path},
        )
    except subprocess.TimeoutExpired:
        return f"no result within {seconds:g} s"
    if finished.returncode < 0:
        return f"its process was ended by {signal.Signals(-finished.returncode).name}"
    lines = finished.stderr.decode(errors="replace").strip().splitlines()
    return lines[-1][:LONGEST_LINE] if finished.returncode and lines else ""


def _compare(
    name: str, runtime: ForeignRuntime, runner: _Runner, expected: Arrays, tolerance: float
) -> list[Comparison]:
    if not runtime.is_available(runner.node_modules):
        return [Comparison(name, note=f"not installed: {runtime.install}")]
    result = runner.run(name)
    if result.refusal:
        return [Comparison(name, result.version, is_right=False, note=f"refused: {result.refusal}")]
    return [
        _compare_output(name, result, output, array, tolerance)
        for output, array in expected.items()
    ]


def _compare_output(
    name: str, result: _Result, output: str, expected: Array, tolerance: float
) -> Comparison:
    array = result.arrays.get(output)
    if array is None or array.shape != expected.shape:
        shape = "nothing" if array is None else f"the shape {array.shape}"
        note = f"returned {shape} in place of {expected.shape}"
        return Comparison(name, result.version, output, is_right=False, note=note)
    difference, is_right = compare_arrays(array, expected, tolerance)
    return Comparison(name, result.version, output, difference, is_right)


def compare_arrays(array: Array, expected: Array, tolerance: float) -> tuple[float, bool]:
    """The largest difference as a part of the largest expected number, and whether it is within the tolerance.
    NaN and infinite numbers must be in the same places.
    """
    if not expected.size:
        return 0.0, True
    if expected.dtype.kind not in "fiub":
        return (0.0, True) if np.array_equal(array, expected) else (1.0, False)
    wide, wide_expected = array.astype(np.float64), expected.astype(np.float64)
    is_finite = np.isfinite(wide_expected)
    if not np.array_equal(wide[~is_finite], wide_expected[~is_finite], equal_nan=True):
        return float("inf"), False
    largest = float(np.abs(wide_expected[is_finite]).max(initial=0.0))
    absolute = float(np.abs(wide - wide_expected)[is_finite].max(initial=0.0))
    difference = absolute / largest if largest else absolute
    if np.isnan(difference):
        return float("inf"), False
    if expected.dtype == np.uint8:
        return difference, absolute <= GRAY_LEVELS
    return difference, absolute == 0 if expected.dtype.kind in "iub" else difference <= tolerance
