"""Every method on every fixture and every real model: a finite map, or a refusal for a listed reason.

    python -m scripts.parity.methods RESULTS.jsonl                      # goes on where it ended
    python -m scripts.parity.methods RESULTS.jsonl --only "vit*"        # models whose name fits
    python -m scripts.parity.methods RESULTS.jsonl --retry              # what failed before, again

Sampling methods get few samples. Each model is explained in a process of its own, so that a crash is a result,
too; a method that takes too long is ended, and so is a model, whose other methods the next call computes.
Prints a line for every model and, in the end, tables in Markdown. Exit code 1 for a crash, an unlisted reason
(`refusals`), a map that is not finite, or a bent pass that refuses a model whose gradient exists.

Real models and photographs are those of `../shared` beside the checkout, or of `--shared FOLDER`.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from scripts.fixtures.files import DATA, IMAGE, load_fixture
from scripts.parity.refusals import reason_of
from scripts.worker_output import read_line

PHOTOGRAPH = "data/images/free/pets_two_dogs.jpg"
FEW: dict[str, Any] = {"samples": 2, "steps": 3, "masks": 8, "maps": 16, "window": 0.5}
SEGMENTS = {"segments": "grid", "superpixels": 9}
INPUTS: dict[str, dict[str, Any]] = {  # besides the image
    "deimv2_atto": {"orig_target_sizes": np.array([[320, 320]], np.int64)},
    "vittrack": {
        "search": np.random.default_rng(0).normal(size=(1, 3, 256, 256)).astype(np.float32)
    },
}
METHOD_SECONDS, MODEL_SECONDS = 120.0, 400.0
MAP, EMPTY, REFUSED, ERROR = "map", "empty", "refused", "error"
FAILURES = ("CRASH", "UNLISTED", "NOT FINITE", "TOO SLOW", "BENT PASS")
GRADIENT = "saliency"  # the method that shows whether a gradient exists


@dataclass(frozen=True)
class Outcome:
    """What a method made of a model; `detail` is the error, or once it is judged the reason of a refusal."""

    model: str
    method: str
    outcome: str
    detail: str = ""
    seconds: float = 0.0

    @property
    def failed(self) -> bool:
        return self.outcome in FAILURES


# The worker


def explain(path: Path, image: Any, method: str) -> tuple[str, str]:
    """The outcome and its detail."""
    import onnxcam
    from onnxcam.methods import METHODS

    few = {
        name: value for name, value in (FEW | SEGMENTS).items() if name in METHODS[method].settings
    }
    options = {"device": "cpu", "cache": False, "inputs": INPUTS.get(path.stem), **few}
    try:
        explainer = onnxcam.Explainer(content_of(path), method, **options)
        explanation = explainer(image)
    except onnxcam.errors.OnnxcamError as error:
        return ERROR, f"{type(error).__name__}: {' '.join(str(error).split())}"
    except Exception as error:  # noqa: BLE001  a bug, and a result
        return "CRASH", f"{type(error).__name__}: {error}"
    arrays = [
        explanation.maps,
        *([] if explanation.attributions is None else [explanation.attributions]),
    ]
    if not all(np.isfinite(array).all() for array in arrays):
        return "NOT FINITE", ""
    return (EMPTY if explanation.is_empty.all() else MAP), ""


def content_of(path: Path) -> Any:
    """A fixture with its weights, or the path of a real model."""
    return load_fixture(path).SerializeToString() if path.parent == DATA else path


def image_of(path: Path, photograph: Path) -> Any:
    """That of a fixture's gradient, or a photograph."""
    if path.parent != DATA:
        return photograph
    arrays = np.load(path.with_suffix(".npz"))
    return arrays["x"][:1] if "x" in arrays else IMAGE.values()[:1]


def work(path: Path, photograph: Path, methods: Iterable[str]) -> None:
    """Print an outcome for every method as soon as there is one."""
    warnings.simplefilter("ignore")
    image = image_of(path, photograph)
    for method in methods:
        begin = time.perf_counter()
        outcome, detail = explain(path, image, method)
        seconds = time.perf_counter() - begin
        print(json.dumps(asdict(Outcome(path.stem, method, outcome, detail, seconds))), flush=True)


# The main process


def outcomes_of(path: Path, photograph: Path, methods: list[str]) -> Iterator[Outcome]:
    """Those of all methods that fit into the time of a model."""
    end = time.monotonic() + MODEL_SECONDS
    remaining = list(methods)
    while remaining and time.monotonic() < end:
        command = [sys.executable, "-m", "scripts.parity.methods", "--worker", str(path)]
        worker = subprocess.Popen(
            [*command, str(photograph), *remaining],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        while remaining and time.monotonic() < end:
            begin = time.monotonic()
            if not (line := read_line(worker, METHOD_SECONDS)):
                break
            remaining.pop(0)
            yield Outcome(**json.loads(line))
        if remaining and time.monotonic() < end:
            seconds = time.monotonic() - begin
            yield _without_answer(worker, path.stem, remaining.pop(0), seconds)
        worker.kill()
        worker.communicate()


def _without_answer(
    worker: subprocess.Popen[str], model: str, method: str, seconds: float
) -> Outcome:
    if seconds > METHOD_SECONDS - 1:
        return Outcome(model, method, "TOO SLOW", f"more than {METHOD_SECONDS:.0f} s", seconds)
    _, error = worker.communicate()
    last = (error.strip().splitlines() or [f"exit code {worker.returncode}"])[-1]
    return Outcome(model, method, "CRASH", last, seconds)


def judge(outcomes: Iterable[Outcome], bent: set[str]) -> list[Outcome]:
    """The same with errors told apart: reasons that are listed, others, and refusals of a bent pass although
    the gradient exists.
    """
    judged = [_judge_error(row) if row.outcome == ERROR else row for row in outcomes]
    with_gradient = {row.model for row in judged if row.method == GRADIENT and row.outcome == MAP}
    return [
        replace(row, outcome="BENT PASS")
        if row.outcome == REFUSED and row.method in bent and row.model in with_gradient
        else row
        for row in judged
    ]


def _judge_error(row: Outcome) -> Outcome:
    kind, _, message = row.detail.partition(": ")
    if reason := reason_of(kind, message):
        return replace(row, outcome=REFUSED, detail=reason.why)
    return replace(row, outcome="UNLISTED")


def tables(outcomes: list[Outcome]) -> Iterator[str]:
    """The counts of every method, the refusals, and the failures, in Markdown."""
    kinds = [MAP, EMPTY, REFUSED, *FAILURES]
    yield "| method | " + " | ".join(kinds) + " |"
    yield "|---|" + "---|" * len(kinds)
    for method in dict.fromkeys(row.method for row in outcomes):
        counts = Counter(row.outcome for row in outcomes if row.method == method)
        yield f"| `{method}` | " + " | ".join(str(counts[kind] or "") for kind in kinds) + " |"
    for heading, kinds in (("refused for", [REFUSED]), ("failed with", [*FAILURES])):
        yield from ("", f"| {heading} | methods | models |", "|---|---|---|")
        for detail, methods, models in _grouped([row for row in outcomes if row.outcome in kinds]):
            yield f"| {detail} | {', '.join(methods)} | {', '.join(models)} |"


def _grouped(outcomes: list[Outcome]) -> Iterator[tuple[str, tuple[str, ...], list[str]]]:
    """Details with their methods and models; models are put together where all methods are the same."""
    refusing: dict[tuple[str, str], list[str]] = defaultdict(list)
    for row in outcomes:
        refusing[_detail_of(row), row.model].append(row.method)
    models: dict[tuple[str, tuple[str, ...]], list[str]] = defaultdict(list)
    for (detail, model), methods in refusing.items():
        models[detail, tuple(methods)].append(model)
    return ((*key, names) for key, names in models.items())


def _detail_of(row: Outcome) -> str:
    return row.detail if row.outcome == REFUSED else f"{row.outcome} {row.detail}"


def load(results: Path) -> dict[tuple[str, str], Outcome]:
    """The last outcome of every model and method."""
    lines = results.read_text().splitlines() if results.exists() else []
    rows = [Outcome(**json.loads(line)) for line in lines]
    return {(row.model, row.method): row for row in rows}


def main(
    results: Annotated[Path, typer.Argument(help="Where outcomes are added, a line each.")],
    shared: Annotated[Path | None, typer.Option(help="Holds data/models and data/images.")] = None,
    only: Annotated[str, typer.Option(help="Models whose name fits.")] = "*",
    methods: Annotated[str, typer.Option(help="Commas between; all if empty.")] = "",
    retry: Annotated[bool, typer.Option("--retry", help="Compute failures again.")] = False,
    budget: Annotated[float, typer.Option(help="Seconds after which no model is begun.")] = 1e9,
) -> None:
    from onnxcam.methods import METHODS

    shared = shared or DATA.parents[2] / "shared"
    chosen = [name.strip() for name in methods.split(",") if name.strip()] or [*METHODS]
    bent = {name for name, method in METHODS.items() if method.rules != "default"}
    known, end, left = load(results), time.monotonic() + budget, 0
    failures = {(row.model, row.method) for row in judge(known.values(), bent) if row.failed}
    done = known.keys() - (failures if retry else set())
    for path in models_in(shared):
        missing = [name for name in chosen if (path.stem, name) not in done]
        if fnmatch(path.stem, only) and missing and time.monotonic() < end:
            rows = list(store(results, outcomes_of(path, shared / PHOTOGRAPH, missing)))
            known |= {(row.model, row.method): row for row in rows}
            missing = missing[len(rows) :]
            counts = Counter(row.outcome for row in rows)
            print(
                f"{path.stem:32} {sum(row.seconds for row in rows):6.1f} s {dict(counts)}",
                flush=True,
            )
        left += len(missing)
    outcomes = judge(sorted(known.values(), key=lambda row: [*METHODS].index(row.method)), bent)
    print("", *tables(outcomes), "", f"{len(outcomes)} outcomes; {left} not computed yet", sep="\n")
    if any(row.failed for row in outcomes):
        raise typer.Exit(1)


def models_in(shared: Path) -> list[Path]:
    """The fixtures and the real models."""
    folders = (DATA, shared / "data" / "models")
    return [path for folder in folders for path in sorted(folder.glob("*.onnx"))]


def store(results: Path, outcomes: Iterable[Outcome]) -> Iterator[Outcome]:
    """The same outcomes, which are also added to the results."""
    with results.open("a") as out:
        for row in outcomes:
            print(json.dumps(asdict(row)), file=out, flush=True)
            yield row


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        work(Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4:])
    else:
        typer.run(main)
