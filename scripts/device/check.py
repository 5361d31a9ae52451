"""Check a device: its gradients compared with the CPU's, nodes that ran elsewhere, time, memory.

    python -m scripts.device --device cpu --quick
    python -m scripts.device --device cuda --device cuda+tf32 --json cuda.json

Each result is printed and written as soon as it is known, in this order, so that a run that is cut off has
shown the most important ones:

1. Every fixture of tests/data and the bundled model, on every device: scores and gradients compared with
   those of the CPU and of the framework, maps of two methods, nodes that fell back to the CPU or only copy.
2. Smooth Grad-CAM++ with 25 and 400 samples, next to as many forward passes of the plain model at its best
   batch and, if torch and torchcam are installed, to torch-cam, taking turns; and the peak memory of each.
3. Passes with arrays copied back and forth, with IO binding, and with CUDA graphs.

Needs neither network nor pytest. Without torch only the bundled model is timed. Exit code 1 if a fixture
exceeds its limit, or a device runs none of them; a model that a device cannot run is reported, but is no
failure.
"""

from __future__ import annotations

import importlib
import json
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any

import typer

from onnxcam.atomic_write import atomic_write
from onnxcam.runtime.device import usable_cpus
from scripts.bench.bench import MANY, SAMPLES, Row, format_result, measure, prepare_model
from scripts.bench.contestants import BOUND
from scripts.bench.models import NAMES, BenchLayer
from scripts.device.fixtures import BUNDLED, LIMITS, names
from scripts.worker_output import read_line

MODELS = ("ResNet-18", BUNDLED, "ViT-B/16", "MobileNetV2")
PACKAGES = ("onnxcam", "onnxruntime-gpu", "onnxruntime", "onnx", "numpy", "torch", "torchcam")
METHOD = "smooth-grad-cam++"
PASSES = {"cpu": 16, "cuda": 512}  # of the comparison of bindings
PATIENCE = 120.0  # seconds for a fixture
TIME_LIMITS = {"cpu": 3600.0, "cuda": 120.0}  # seconds for a contestant
WORKER = ("-m", "scripts.device.fixtures")


class Report:
    """The results: one line each on standard output, and all of them in a file."""

    def __init__(self, file: Path | None) -> None:
        self.file = file
        self.rows: list[dict[str, Any]] = []

    def add(self, row: dict[str, Any], line: str) -> None:
        """Print a result, and add it to the file."""
        self.rows.append(row)
        print(line, flush=True)
        if self.file:
            with atomic_write(self.file) as part:
                part.write_text(json.dumps(self.rows, indent=1) + "\n")


def machine() -> dict[str, Any]:
    """The machine and packages that everything was measured on."""
    row: dict[str, Any] = {"check": "machine", "date": time.strftime("%Y-%m-%d %H:%M")}
    row |= {"system": platform.platform(), "processors": usable_cpus(), "gpu": _gpu()}
    for package in PACKAGES:
        with suppress(PackageNotFoundError):
            row[package] = version(package)
    return row | {"limits": LIMITS}


def _gpu() -> str | None:
    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()


def fixture_rows(device: str, chosen: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Results of the fixtures, from a separate process that is restarted after a fixture that ends it."""
    left = list(chosen)
    while left:
        words = [sys.executable, *WORKER, device, *left]
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as worker:
            while line := read_line(worker, PATIENCE):
                row = json.loads(line)
                yield row
                if row["check"] == "fixture":
                    left.pop(0)
        if left:
            error = f"the process ended with {worker.returncode} (or had {PATIENCE:.0f} s)"
            row = {"check": "fixture", "device": device, "fixture": left.pop(0), "error": error}
            yield row | {"passed": False}


def format_fixture(row: dict[str, Any]) -> str:
    """A line of the table."""
    if row["check"] == "memory":
        peak = "unknown" if row["mb"] is None else f"{row['mb']:.0f} MB"
        return f"{row['device']:10} peak memory of the fixtures: {peak}"
    verdict = {True: "ok", False: "OVER THE LIMIT", None: "not run"}[row["passed"]]
    head = f"{row['device']:10} {row['fixture']:30} {verdict:8}"
    if row["error"]:
        return f"{head} {row['error']}"
    errors = {name: row[name] for name in ("scores", "gradient", "framework")}
    errors |= row.get("maps", {})
    numbers = " ".join(f"{name} {error:.1e}" for name, error in errors.items() if error is not None)
    elsewhere = _format_counts("on the CPU", row["fell_back"]) + _format_counts(
        "copies", row["copies"]
    )
    return f"{head} {numbers} (limit {row['limit']:.0e}); {row['nodes']} nodes{elsewhere}"


def _format_counts(what: str, counts: dict[str, int]) -> str:
    listed = ", ".join(f"{operator} x{count}" for operator, count in counts.items())
    return f"; {what}: {listed}" if counts else ""


def rows_of_samples(device: str, bench_layer: BenchLayer, *, quick: bool) -> list[Row]:
    """Smooth Grad-CAM++ next to passes of the plain model and to torch-cam, with few samples and with many."""
    rows = []
    for samples in (SAMPLES,) if quick else (SAMPLES, MANY):
        slow = _kind(device) == "cpu" and samples == MANY  # takes minutes and shows nothing new
        peers = ("torch-cam",) if bench_layer.module and not slow else ()
        who, settings = ("plain", "onnxcam", *peers), {"samples": samples}
        rows.append(Row(f"{samples} samples", who, samples, settings, bench_layer, METHOD))
    return rows


def rows_of_bindings(device: str, bench_layer: BenchLayer, *, quick: bool) -> list[Row]:
    """Passes of the model, and of the model with gradients, in three ways each."""
    passes = PASSES[_kind(device)] // (2 if quick else 1)
    return [Row(f"{passes} passes", ("plain", *BOUND), passes, {}, bench_layer, "bindings")]


def _kind(device: str) -> str:
    return "cuda" if device.startswith("cuda") else "cpu"


@cache
def job_and_layer(name: str, folder: Path) -> tuple[dict[str, Any], BenchLayer]:
    """The contestants' job for a model, and its layer. ImportError if torch is missing."""
    folder_of_model = folder / name.replace("/", "-")
    folder_of_model.mkdir()
    job, bench_layer = (
        _bundled_job(folder_of_model) if name == BUNDLED else _torch_job(name, folder_of_model)
    )
    return job | {"model": NAMES.get(name, ""), "threads": usable_cpus()}, bench_layer


def _bundled_job(folder: Path) -> tuple[dict[str, Any], BenchLayer]:
    import onnxcam
    from onnxcam.bundled import bundled_model

    path = folder / "bundled.onnx"  # its cache is next to it
    path.write_bytes(bundled_model().read_bytes())
    plan = onnxcam.Explainer(path, METHOD, device="cpu", cache=False).plan
    shape = (plan.image.channels, plan.image.height, plan.image.width)
    job = {"path": str(path), "shape": shape, "classes": plan.score.classes}
    return job, BenchLayer("dependent", plan.layers[0].name, "NCHW", 0, "")


def _torch_job(name: str, folder: Path) -> tuple[dict[str, Any], BenchLayer]:
    importlib.import_module("torch")
    job, layers = prepare_model(name, folder)
    dependent = [bench_layer for bench_layer in layers if bench_layer.where == "dependent"]
    return job, (dependent or layers)[-1]


def add_times(
    report: Report,
    name: str,
    device: str,
    folder: Path,
    rows_of: Callable[..., list[Row]],
    quick: bool,
) -> None:
    """Measure the rows of one model on one device."""
    try:
        job, bench_layer = job_and_layer(name, folder)
        job = job | {"device": device, "limit": TIME_LIMITS[_kind(device)]}
        for row in rows_of(device, bench_layer, quick=quick):
            for result in measure(name, row, job, 2 if quick else 3):
                speed = {"check": "speed", "device": device, **asdict(result)}
                report.add(_null_for_nan(speed), f"{device:10} {format_result(result)}")
    except Exception as error:  # noqa: BLE001  the other models are still measured
        why = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        failure = {"check": "speed", "device": device, "model": name, "why": why}
        report.add(failure, f"{device:10} {name:15} not measured: {why}")


def _null_for_nan(row: dict[str, Any]) -> dict[str, Any]:
    """JSON has no NaN: what was not measured is null."""
    return {name: None if value != value else value for name, value in row.items()}


def main(
    device: Annotated[
        list[str] | None, typer.Option(help="cpu, cuda, cuda:N, cuda+tf32; repeatable.")
    ] = None,
    file: Annotated[Path | None, typer.Option("--json", help="Write the results here.")] = None,
    fixtures: Annotated[
        str,
        typer.Option(help="Only fixtures with one of these in their names, separated by commas."),
    ] = "",
    models: Annotated[
        str, typer.Option(help="The models to time, separated by commas; - for none.")
    ] = ",".join(MODELS),
    quick: Annotated[
        bool, typer.Option("--quick", help="25 samples, two runs, the bundled model.")
    ] = False,
) -> None:
    devices = device or ["cpu"]
    report = Report(file)
    facts = machine()
    report.add(facts, "  ".join(f"{name} {value}" for name, value in facts.items()))
    chosen = [name for name in names() if any(part in name for part in fixtures.split(","))]
    for where in devices:
        for row in fixture_rows(where, chosen):
            report.add(row, format_fixture(row))
    ran = {row["device"] for row in report.rows if row.get("passed") is not None}
    timed = [BUNDLED] if quick and models == ",".join(MODELS) else models.split(",")
    with tempfile.TemporaryDirectory() as folder:
        for rows_of in (rows_of_samples, rows_of_bindings):
            for where in sorted(ran, key=devices.index):
                for name in timed if models != "-" else ():
                    add_times(report, name, where, Path(folder), rows_of, quick)
    for where in sorted({*devices} - ran):
        print(f"{where}: no fixture ran, so nothing was timed")
    if ran != {*devices} or any(row.get("passed") is False for row in report.rows):
        raise typer.Exit(1)
