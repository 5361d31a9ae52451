"""How long explanations take, compared with the model's own forward passes and with other packages.

    python -m scripts.bench --quick                    # two networks, five minutes
    python -m scripts.bench --csv bench.csv --plot bench.png
    python -m scripts.bench --models "ResNet-18,ViT-B/16" --rows smooth --device cuda

Every contestant runs in a process of its own, one at a time and in turns, so that a slow minute of the
machine affects all of them; the medians of a row are compared with each other only. The floor of a row is
the plain model in ONNX Runtime at its own best batch, for as many images as the method has to run.
onnxcam is measured from the second run on, with the schedule that it measured and the model that it cached.
All other methods: `scripts/bench/methods.py`. Needs the extra `bench`, and `timm` (see `scripts/parity`).
"""

from __future__ import annotations

import contextlib
import csv
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from statistics import median
from typing import IO, Annotated, Any

import typer

from scripts.bench.models import (
    CLASSES,
    NAMES,
    SHAPE,
    BenchLayer,
    bench_layers,
    export,
    torch_model,
)

QUICK = ("ResNet-18", "MobileNetV2")
SAMPLES, MANY = 25, 400
PEERS = {  # the methods that are measured on every network, and who else computes them
    "cam": ("torch-cam",),
    "smooth-grad-cam++": ("torch-cam",),
    "grad-cam": ("torch-cam", "pytorch-grad-cam", "captum"),
    "grad-cam++": ("torch-cam", "pytorch-grad-cam"),
    "saliency": ("captum",),
    "smooth-grad": ("captum",),
    "integrated-gradients": ("captum",),
}
FEWEST, PATIENCE = 2, 20.0  # runs of a contestant, and seconds after which it is not run again
CONTESTANT = ("-m", "scripts.bench.contestants")
LIMIT = 3600.0  # seconds after which a contestant is ended
MB = 1 << 20


@dataclass(frozen=True)
class Row:
    """What is compared: a method at a place, and the plain passes that it cannot do without."""

    name: str
    contestants: tuple[str, ...]
    passes: int
    settings: dict[str, Any] = field(default_factory=dict)
    bench_layer: BenchLayer | None = None
    method: str = ""

    @property
    def label(self) -> str:
        """METHOD@PLACE."""
        return f"{self.name}@{self.bench_layer.where if self.bench_layer else 'image'}"


@dataclass
class Result:
    """One contestant of one row; seconds are a median, `ratio` is to the floor, peak memory in MB."""

    model: str
    row: str
    where: str
    layer: str
    contestant: str
    seconds: float
    ratio: float
    peer_ratio: float  # its time / ours
    memory: float
    why: str = ""


class Worker:
    """A contestant in its process."""

    def __init__(self, job: dict[str, Any]) -> None:
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115  read when the process has ended
        self.times: list[float] = []
        self.process = subprocess.Popen(
            [sys.executable, *CONTESTANT, json.dumps(job)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
            env=os.environ | {"ONNXCAM_CACHE": str(Path(job["path"]).with_name("cache"))},
        )
        self.limit = threading.Timer(job.get("limit", LIMIT), self.process.kill)
        self.limit.daemon = True
        self.limit.start()
        self.is_alive = _stream(self.process.stdout).readline().strip() == "ready"

    def run(self) -> None:
        """One run, timed there."""
        with contextlib.suppress(BrokenPipeError):  # it was ended, and there is nothing to read
            _stream(self.process.stdin).write("\n")
            _stream(self.process.stdin).flush()
        line = _stream(self.process.stdout).readline().strip()
        self.is_alive = bool(line)
        if self.is_alive:
            self.times.append(float(line))

    def end(self) -> tuple[float, str]:
        """Its peak memory in MB, or why it failed."""
        rest, _ = self.process.communicate()
        self.limit.cancel()
        with self.errors:
            self.errors.seek(0)
            error_lines = self.errors.read().strip().splitlines()
        peak = float(rest.strip() or "nan") / MB
        return peak, "" if self.is_alive else (error_lines[-1] if error_lines else "died")[:200]


def _stream(stream: IO[str] | None) -> IO[str]:
    assert stream is not None
    return stream


def layers_of(method: Any, bench_layers: list[BenchLayer]) -> Sequence[BenchLayer | None]:
    """Where a method is measured: at all layers if it smooths, which may be for nothing; None is no layer."""
    if not method.has_layer:
        return [None]
    return bench_layers if method.sampler.smooths else bench_layers[:1]


def rows_of(bench_layers: list[BenchLayer]) -> list[Row]:
    """Every row of a network: methods, the gradient at the image, and memory."""
    from onnxcam.methods import METHODS

    rows = []
    for name, peers in PEERS.items():
        method = METHODS[name]
        sampler = method.sampler
        settings = {sampler.counts: SAMPLES} if sampler.counts else {}
        who = ("plain", "onnxcam", *peers)
        for bench_layer in layers_of(method, bench_layers):
            passes = SAMPLES if settings else 1
            if bench_layer and sampler.smooths and bench_layer.where == "last":
                passes = 1  # the gradient does not depend on the image
            rows.append(Row(name, who, passes, settings, bench_layer, name))
    who = ("plain", "onnxcam gradient", "captum", "onnx-ad")
    rows.append(Row("gradient at the image", who, 8, {}, None, "gradient"))
    dependent = [candidate for candidate in bench_layers if candidate.where == "dependent"]
    for bench_layer in dependent:
        many = {"samples": MANY}
        rows.append(
            Row(f"{MANY} samples", ("onnxcam",), MANY, many, bench_layer, "smooth-grad-cam++")
        )
    return rows


def measure(model: str, row: Row, job: dict[str, Any], repeats: int) -> list[Result]:
    """The results of one row: its contestants in turns."""
    job = job | {"passes": row.passes, "settings": row.settings, "method": row.method}
    if row.bench_layer:
        job |= asdict(row.bench_layer)
    if row.passes == SAMPLES:
        _warm_up(job)
    workers = {name: Worker(job | {"contestant": name}) for name in row.contestants}
    for _ in range(1 if row.passes == MANY else repeats):
        for worker in workers.values():
            if worker.is_alive and (len(worker.times) < FEWEST or sum(worker.times) < PATIENCE):
                worker.run()
    ends = {name: worker.end() for name, worker in workers.items()}
    times = {name: median(worker.times or [float("nan")]) for name, worker in workers.items()}
    ours = next(name for name in row.contestants if name.startswith("onnxcam"))
    where, layer = (
        (row.bench_layer.where, row.bench_layer.layer) if row.bench_layer else ("image", "")
    )
    return [
        Result(
            model,
            row.name,
            where,
            layer,
            name,
            seconds,
            seconds / times.get("plain", float("nan")),
            seconds / times[ours],
            *ends[name],
        )
        for name, seconds in times.items()
    ]


def _warm_up(job: dict[str, Any]) -> None:
    """Let onnxcam find its layout and keep its model, as the first explanations of a user do."""
    worker = Worker(job | {"contestant": "onnxcam"})
    for _ in range(3):
        if worker.is_alive:
            worker.run()
    worker.end()


def format_result(result: Result) -> str:
    """A line of the table."""
    numbers = f"{result.seconds * 1000:9.1f} ms {result.ratio:7.2f} x floor {result.peer_ratio:7.2f} x ours"
    return (
        f"{result.model:15} {result.row:24} {result.where:9} {result.contestant:17} {numbers} "
        f"{result.memory:7.0f} MB {result.why}"
    )


def prepare_model(name: str, folder: Path) -> tuple[dict[str, Any], list[BenchLayer]]:
    """The network exported, and its layers."""
    model = torch_model(NAMES[name])
    free, fixed = folder / "free.onnx", folder / "fixed.onnx"
    export(model, free)
    export(model, fixed, 8)
    job = {"path": str(free), "fixed_path": str(fixed), "shape": SHAPE, "classes": CLASSES}
    return job, bench_layers(model, free)


def plot_ratios(results: list[Result], path: Path) -> None:
    """The ratios to the floor, one bar a network and place, of Smooth Grad-CAM++."""
    import importlib

    plot = importlib.import_module("matplotlib.pyplot")
    chosen = [r for r in results if r.row == "smooth-grad-cam++" and r.contestant != "plain"]
    labels = list(dict.fromkeys(f"{r.model}, {r.where}" for r in chosen))
    figure, axes = plot.subplots(figsize=(9, 0.35 * len(labels) + 1.5))
    for shift, who in enumerate(("onnxcam", "torch-cam")):
        ratios = {f"{r.model}, {r.where}": r.ratio for r in chosen if r.contestant == who}
        heights = [ratios.get(label, float("nan")) for label in labels]
        axes.barh([i + 0.4 * shift for i in range(len(labels))], heights, 0.4, label=who)
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set(xscale="log", xlabel="time / plain forward passes", yticks=range(len(labels)))
    axes.set_yticklabels(labels)
    axes.invert_yaxis()
    axes.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def main(
    file: Annotated[Path | None, typer.Option("--csv", help="Write the results here.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw the ratios of Smooth Grad-CAM++.")] = None,
    models: Annotated[str, typer.Option(help="Networks, with commas between; all if empty.")] = "",
    rows: Annotated[
        str,
        typer.Option(help='Only rows with one of these in "METHOD@PLACE", with commas between.'),
    ] = "",
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    threads: Annotated[int, typer.Option(help="Of each contestant; 0: one a core.")] = 0,
    repeats: Annotated[int, typer.Option(help="Runs of each contestant.", min=1)] = 5,
    quick: Annotated[bool, typer.Option("--quick", help="Two networks, three runs.")] = False,
) -> None:
    chosen = [name.strip() for name in models.split(",") if name.strip()]
    names = chosen or (QUICK if quick else list(NAMES))
    if unknown := [name for name in names if name not in NAMES]:
        raise typer.BadParameter(f"no network {unknown[0]!r}; there are {', '.join(NAMES)}")
    threads = threads or len(os.sched_getaffinity(0))
    results: list[Result] = []
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            job, bench_layers = prepare_model(name, Path(folder))
            job |= {"model": NAMES[name], "device": device, "threads": threads}
            for row in rows_of(bench_layers):
                long = quick and row.passes == MANY
                if long or not any(part in row.label for part in rows.split(",")):
                    continue
                for result in measure(name, row, job, 3 if quick else repeats):
                    results.append(result)
                    print(format_result(result), flush=True)
        if file:
            _write_csv(file, results)
    if plot:
        plot_ratios(results, plot)


def _write_csv(path: Path, results: list[Result]) -> None:
    with path.open("w", newline="") as out:
        writer = csv.DictWriter(out, [field.name for field in fields(Result)])
        writer.writeheader()
        writer.writerows(asdict(result) for result in results)
