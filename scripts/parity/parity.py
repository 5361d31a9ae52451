"""Compare gradients of exported timm models with torch autograd, at the image and at the automatic layer.

    python -m scripts.parity --csv parity.csv                      # every family's smallest model
    python -m scripts.parity --csv parity.csv --only "vit,swin" --exporter script

Weights are random and seeded. The reference is torch in float64: a gradient is right if it is off by at
most 1e-4 of its largest value, or at most twice as far as torch's own float32, and if its cosine is at
least 0.9999, or not below torch's own. A net with kinks (ReLU, MaxPool) may be on the other side of a kink
by rounding alone, so an image over the bound is followed by new ones, three in all: a wrong rule is wrong
at every image. The values over the bound stay in the row.

The TorchScript exporter writes a dynamic batch, the dynamo exporter a fixed one; each model is then changed
to the other kind too, and both have to give the same gradients. Every model runs in a process of its own;
rows that the CSV has are skipped. Needs `timm` beside the extra `oracle`; torchvision for CUDA is read
through `torchvision_cpu`, where that is on the path.
"""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from scripts.parity.families import FAMILIES

EXPORTERS = ("script", "dynamo")
CLOSE, COSINE = 1e-4, 0.9999
SIZE, SEED, DRAWS = 96, 0, 3


@dataclass
class Row:
    """One model through one exporter; errors are max |difference| / max |gradient|."""

    family: str
    model: str
    exporter: str
    outcome: str = ""
    opset: int = 0
    nodes: int = 0
    size: int = 0
    layer: str = ""
    layout: str = ""
    grid: str = ""
    tokens: int = 0
    image_error: float = float("nan")
    image_torch: float = float("nan")
    image_cosine: float = float("nan")
    layer_error: float = float("nan")
    layer_torch: float = float("nan")
    layer_cosine: float = float("nan")
    batch_error: float = float("nan")  # between the free and the fixed batch
    draws: int = 0  # images that it took; those before the last were over the bound
    build: float = float("nan")  # seconds for 1,000 nodes
    seconds: float = float("nan")
    why: str = ""


@dataclass(frozen=True)
class Gap:
    """How far a gradient is from the true one, and how far torch's float32 is."""

    error: float
    torch: float
    cosine: float
    torch_cosine: float

    @property
    def is_right(self) -> bool:
        close = self.error <= max(CLOSE, 2 * self.torch)
        return close and self.cosine >= min(COSINE, self.torch_cosine)


def gap(ours: Any, single: Any, double: Any) -> Gap:
    """Our gradient and torch's float32 beside torch's float64."""
    scale = float(np.abs(double).max()) or 1.0
    errors = [float(np.abs(gradient - double).max()) / scale for gradient in (ours, single)]
    return Gap(*errors, *(_cosine(gradient, double) for gradient in (ours, single)))


def _cosine(first: Any, second: Any) -> float:
    norms = float(np.linalg.norm(first)) * float(np.linalg.norm(second))
    return float(np.vdot(first, second)) / norms if norms else 1.0


def fill_row(row: Row) -> Row:
    """The row of one model, filled in."""
    from scripts.parity.onnx_side import open_gradients, open_other_batch
    from scripts.parity.torch_side import draw_inputs, export_model, gradients

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        model, x = export_model(row.model, SIZE, SEED, path, row.exporter)
        row.size = int(x.shape[-1])
        run_ours = open_gradients(row, path)
        other = open_other_batch(row, path) if run_ours else None
    errors_over_bound: list[str] = []
    while run_ours and row.outcome != "right" and row.draws < DRAWS:
        x, weights = draw_inputs(x.shape, SEED + row.draws)
        ours, activation = run_ours(x.numpy(), weights.numpy())
        single = gradients(model.float(), x, weights, activation, ())
        double = gradients(model.double(), x.double(), weights.double(), None, single.layers)
        _judge(row, ours, single, double)
        if other and np.isnan(row.batch_error):
            _compare_batches(row, ours[0], other(x.numpy(), weights.numpy())[0][0])
        row.draws += 1
        errors_over_bound += (
            [] if row.outcome == "right" else [f"{max(row.image_error, row.layer_error):.1e}"]
        )
    if errors_over_bound and run_ours:
        row.why = (
            f"over the bound at {', '.join(errors_over_bound)} of {row.draws} images; {row.why}"
        )
    return row


def _compare_batches(row: Row, ours: Any, other: Any) -> None:
    row.batch_error = float(np.abs(ours - other).max() / (np.abs(ours).max() or 1))


def _judge(row: Row, ours: tuple[Any, Any], single: Any, double: Any) -> None:
    image = gap(ours[0], single.image, double.image)
    row.image_error, row.image_torch, row.image_cosine = image.error, image.torch, image.cosine
    right = image.is_right
    gaps = [gap(ours[1], single.layers[i], expected) for i, expected in double.layers.items()]
    if gaps:
        layer = min(gaps, key=lambda candidate: candidate.error)
        row.layer_error, row.layer_torch, row.layer_cosine = layer.error, layer.torch, layer.cosine
        right = right and layer.is_right
    elif row.layer:
        row.why = "the layer is no tensor of torch's: only the image's gradient was compared"
    row.outcome = "right" if right else "wrong"


def _run_in_process(row: Row, limit: float) -> Row:
    """The row as a process of its own fills it in."""
    start = time.perf_counter()
    command = [
        sys.executable,
        "-m",
        "scripts.parity",
        "--one",
        f"{row.family},{row.model},{row.exporter}",
    ]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit, check=False)
        lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
        if lines:
            row = Row(**json.loads(lines[-1]))
        else:
            row.outcome = "died"
            row.why = " ".join(done.stderr.strip().splitlines()[-1:])[:300] or str(done.returncode)
    except subprocess.TimeoutExpired:
        row.outcome, row.why = "too slow", f"more than {limit:.0f} s"
    row.seconds = time.perf_counter() - start
    return row


def _run_one(family: str, model: str, exporter: str) -> None:
    """Fill in one row and print it: what the process of one model does."""
    row = Row(family, model, exporter)
    try:
        row = fill_row(row)
    except Exception as error:  # noqa: BLE001  an exporter may raise anything; it is the row's content
        row.outcome = "not exported" if not row.nodes else "failed"
        row.why = f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]
    print(json.dumps(asdict(row)))


def _read_rows(path: Path) -> list[Row]:
    if not path.exists():
        return []
    kinds = {
        field.name: {"int": int, "float": float}.get(str(field.type), str) for field in fields(Row)
    }
    with path.open(newline="") as file:
        return [
            Row(**{name: kinds[name](value) for name, value in record.items()})
            for record in csv.DictReader(file)
        ]


def _append(path: Path, row: Row) -> None:
    is_new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Row)])
        if is_new:
            writer.writeheader()
        writer.writerow(asdict(row))


def summary(rows: list[Row]) -> str:
    """How many rows came out how, and what stands in the way of the others."""
    lines = [f"{count:4} {name}" for name, count in Counter(r.outcome for r in rows).most_common()]
    missing: Counter[str] = Counter()
    for row in rows:
        if row.outcome == "no rule":
            missing.update(json.loads(row.why).keys())
    lines += [f"     no rule for {name}: {count} models" for name, count in missing.most_common()]
    built = [row.build for row in rows if row.build == row.build]
    if built:
        slowest = max((row for row in rows if row.build == row.build), key=lambda row: row.build)
        lines.append(
            f"     gradient written in {np.median(built):.2f} s for 1,000 nodes (median), at most "
            f"{slowest.build:.2f} s ({slowest.model}, {slowest.nodes} nodes)"
        )
    errors = [row.batch_error for row in rows if row.batch_error == row.batch_error]
    if errors:
        lines.append(
            f"     free and fixed batch: {len(errors)} models run with both, {max(errors):.1e} apart"
        )
    return "\n".join(lines)


def main(
    file: Annotated[Path, typer.Option("--csv", help="Rows are added here.")] = Path("parity.csv"),
    only: Annotated[str, typer.Option(help="Families or models, with commas between.")] = "",
    exporter: Annotated[str, typer.Option(help="script, dynamo, or both.")] = "both",
    limit: Annotated[float, typer.Option(help="Seconds for one model.")] = 240,
    one: Annotated[str, typer.Option(hidden=True)] = "",
) -> None:
    if one:
        _run_one(*one.split(","))
        return
    rows = _read_rows(file)
    done = {(row.model, row.exporter) for row in rows}
    wanted = {name.strip() for name in only.split(",") if name.strip()}
    for name in EXPORTERS if exporter == "both" else (exporter,):
        for family, model in FAMILIES.items():
            if (model, name) in done or (wanted and not wanted & {family, model}):
                continue
            row = _run_in_process(Row(family, model, name), limit)
            rows.append(row)
            _append(file, row)
            print(
                f"{row.outcome:12} {model:36} {name:7} {row.image_error:9.1e} {row.why[:90]}",
                flush=True,
            )
    print(summary(rows))
