"""Time, memory and size of embedded explanations, next to the Python path and to plain forward passes.

    python -m scripts.bench.embedding model.onnx ... [--samples 25] [--rounds 5]

Every contestant is a process of its own with ONNX Runtime's own threads, so that its memory can be told; they
take turns, and the fastest turn counts. The floor of an explanation of n samples is n + 1 forward passes:
the clean one tells the class.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from scripts.bench.contestants import peak_memory

REPEATS, BATCH = 5, 4
METHOD = "smooth-grad-cam++"
Run = Callable[[], Any]


def main(
    models: Annotated[list[Path], typer.Argument()],
    samples: int = 25,
    rounds: int = 3,
) -> None:
    """Print a table in Markdown."""
    print(
        "| model | size of the model / file, MB | plain passes | Python | embedded | embedded, one batch | "
        f"memory in MB: plain at batch {BATCH} | Python | embedded | embedded, one batch |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    for model in models:
        with tempfile.TemporaryDirectory() as folder:
            print(line(model, Path(folder), samples, rounds), flush=True)


def line(model: Path, folder: Path, samples: int, rounds: int) -> str:
    """The row of a model: times as a part of n + 1 plain passes, and the peak memory of each process."""
    import onnxcam

    embedded = onnxcam.embed(model, METHOD, samples=samples)
    sizes = embedded.explanation.rounds
    rows = -(-(samples + 1) // sizes)
    files = {"loop": folder / "loop.onnx", "batch": folder / "batch.onnx"}
    embedded.save(files["loop"])
    onnxcam.embed(model, METHOD, samples=samples, rounds=1).save(files["batch"])
    passes = samples + 1 if embedded.explanation.samples else 1
    jobs: dict[str, dict[str, Any]] = {
        "plain": {"model": str(model), "rows": rows, "passes": passes},
        "plain4": {"model": str(model), "rows": BATCH, "passes": BATCH},
        "python": {"model": str(model), "rows": rows, "samples": samples},
        "loop": {"model": str(files["loop"])},
        "batch": {"model": str(files["batch"])},
    }
    results = [(name, run_job(name, job)) for _ in range(rounds) for name, job in jobs.items()]
    best = {name: min(r["seconds"] for key, r in results if key == name) for name in jobs}
    memory = {name: min(r["memory"] for key, r in results if key == name) for name in jobs}
    size = [path.stat().st_size / 1e6 for path in (model, files["loop"])]
    ratios = " | ".join(f"{best[name] / best['plain']:.2f}" for name in ("python", "loop", "batch"))
    used = " | ".join(f"{memory[name]:.0f}" for name in ("plain4", "python", "loop", "batch"))
    return (
        f"| {model.stem} ({sizes} rounds) | {size[0]:.1f} / {size[1]:.1f} | {best['plain'] * 1e3:.1f} ms | "
        f"{ratios} | {used} |"
    )


def run_job(name: str, job: dict[str, Any]) -> dict[str, float]:
    """The seconds and the memory of a contestant."""
    command = [sys.executable, "-W", "ignore", "-m", "scripts.bench.embedding", "worker"]
    words = json.dumps({"name": name, **job})
    done = subprocess.run([*command, words], capture_output=True, text=True, check=True)
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def work(job: dict[str, Any]) -> None:
    """Measure one contestant, and print the result."""
    run = python_run(job) if job["name"] == "python" else session_run(job)
    run()
    seconds = statistics.median(measure(run))
    memory = peak_memory("cpu") / 1e6
    print(json.dumps({"seconds": seconds, "memory": memory}))


def measure(run: Run) -> Iterator[float]:
    for _ in range(REPEATS):
        start = time.perf_counter()
        run()
        yield time.perf_counter() - start


def session_run(job: dict[str, Any]) -> Run:
    """The passes of a plain model in batches of `rows`, or one run of a file with an explanation."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(job["model"], options, providers=["CPUExecutionProvider"])
    image = session.get_inputs()[0]
    fixed = image.shape[0] if isinstance(image.shape[0], int) else None
    rows = fixed or job.get("rows", 1)
    feeds = {image.name: random_images(image, rows)}
    count = -(-job.get("passes", 1) // rows)
    return lambda: [session.run(None, feeds) for _ in range(count)]


def python_run(job: dict[str, Any]) -> Run:
    """The Python path with the same noise, in chunks of as many rows."""
    import onnxcam

    session = session_input(job["model"])
    explainer = onnxcam.Explainer(
        job["model"],
        METHOD,
        samples=job["samples"],
        generator="tile",
        chunk=job["rows"],
        device="cpu",
    )
    images = random_images(session, 1)
    return lambda: explainer(images)


def session_input(model: str) -> Any:
    import onnxruntime as ort

    return ort.InferenceSession(model, providers=["CPUExecutionProvider"]).get_inputs()[0]


def random_images(image: Any, rows: int) -> Any:
    """Images as an input takes them."""
    names = {"tensor(float)": np.float32, "tensor(uint8)": np.uint8, "tensor(int8)": np.int8}
    shape = [rows, *(size if isinstance(size, int) else 224 for size in image.shape[1:])]
    noise = np.random.default_rng(0).normal(size=shape)
    dtype = names[image.type]
    return noise.astype(dtype) if dtype == np.float32 else (noise * 20 + 60).astype(dtype)


if __name__ == "__main__":
    if sys.argv[1:2] == ["worker"]:
        work(json.loads(sys.argv[2]))
    else:
        typer.run(main)
