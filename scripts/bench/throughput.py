"""How long many image files take, next to a plain program that only runs the model on them.

    python -m scripts.bench.throughput                      # generated photographs of 640 x 480
    python -m scripts.bench.throughput --images PHOTOGRAPHS # JPEG files of this folder, repeated

Contestants, each in a process of its own and in turns:

    plain      threads decode and preprocess the files, and ONNX Runtime runs them, at the fastest of several
               batch sizes, with one session on all cores or one per core
    onnxcam    Grad-CAM of the files by `Explainer.stream`, the maps kept in memory
    saved      the same, with the files that `onnxcam explain` writes
    prepare    decoding and preprocessing alone; with `passes`, the floor
    passes     the model alone, as fast as `plain` found it
"""

from __future__ import annotations

import shutil
import tempfile
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import numpy as np
import typer
from PIL import Image

from scripts.bench.bench import QUICK, Worker
from scripts.bench.contestants import Run, measure_seconds, random_image, session_of
from scripts.bench.models import CLASSES, NAMES, SHAPE, export, torch_model

FILES = 256
BATCHES = (1, 2, 4, 8, 16)
TRIAL = 64  # files on which the schedules of the plain program are tried
AHEAD = 32  # files that it decodes ahead
MEAN = np.array((0.485, 0.456, 0.406), np.float32)
STD = np.array((0.229, 0.224, 0.225), np.float32)


def read_plain(path: str) -> Any:
    """(1, 3, 224, 224): the usual preprocessing: the center of the image, with Pillow and in float32."""
    with Image.open(path) as image:
        width, height = image.size
        side = 0.875 * min(width, height)
        left, top = (width - side) / 2, (height - side) / 2
        box = (left, top, left + side, top + side)
        resized = image.convert("RGB").resize(SHAPE[:0:-1], Image.Resampling.BILINEAR, box=box)
    pixels = np.asarray(resized, np.float32)
    scaled = pixels * (1 / (255 * STD)) - MEAN / STD
    return np.ascontiguousarray(scaled.transpose(2, 0, 1))[None]


def _read_ahead(paths: list[str], threads: int) -> Iterator[Any]:
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[Any]] = deque()
        for path in paths:
            waiting.append(pool.submit(read_plain, path))
            if len(waiting) > AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _run_plain(
    paths: list[str], job: dict[str, Any], session: Any, batch: int, workers: int
) -> Any:
    """The outputs for all files, from `workers` runs at a time."""
    name, rows = session.get_inputs()[0].name, _read_ahead(paths, job["threads"])
    outputs: list[Any] = []
    with ThreadPoolExecutor(workers) as pool:
        running: deque[Future[Any]] = deque()
        while images := [row for _, row in zip(range(batch), rows, strict=False)]:
            feeds = {name: np.concatenate(images)}
            running.append(pool.submit(session.run, None, feeds))
            if len(running) > workers:
                outputs.append(running.popleft().result()[0])
        outputs += [run.result()[0] for run in running]
    return np.concatenate(outputs)


def _fastest(job: dict[str, Any]) -> tuple[Any, int, int]:
    """The session, batch size and number of runs at a time with which the plain program is fastest."""
    content, paths = Path(job["path"]).read_bytes(), job["files"][:TRIAL]
    cores = job["threads"]
    sessions = {
        workers: session_of(content, job | {"threads": cores // workers})
        for workers in sorted({1, cores})
    }
    trials: dict[tuple[int, int], list[float]] = {}
    for _ in range(3):  # in turns
        for workers, session in sessions.items():
            for batch in BATCHES:
                run = lambda: _run_plain(paths, job, session, batch, workers)  # noqa: B023, E731
                trials.setdefault((workers, batch), []).append(measure_seconds(run))
    workers, batch = min(trials, key=lambda trial: min(trials[trial]))
    print(f"plain: {workers} at a time, batch {batch}")
    return sessions[workers], batch, workers


def plain(job: dict[str, Any]) -> Run:
    """The plain program at its fastest."""
    session, batch, workers = _fastest(job)
    return lambda: _run_plain(job["files"], job, session, batch, workers)


def passes(job: dict[str, Any]) -> Run:
    """The model alone, at the fastest schedule of the plain program."""
    session, batch, workers = _fastest(job)
    feeds = {session.get_inputs()[0].name: random_image(job, batch)}
    pool = ThreadPoolExecutor(workers)
    return lambda: [
        *pool.map(lambda _: session.run(None, feeds), range(len(job["files"]) // batch))
    ]


def prepare(job: dict[str, Any]) -> Run:
    """Decoding and preprocessing alone."""
    return lambda: [*_read_ahead(job["files"], job["threads"])]


def onnxcam_maps(job: dict[str, Any]) -> Run:
    """Grad-CAM with the maps in memory."""
    import onnxcam

    explainer = onnxcam.Explainer(job["path"], "grad-cam", device=job["device"])
    return lambda: [explanation.maps for explanation in explainer.stream(job["files"])]


def onnxcam_saved(job: dict[str, Any]) -> Run:
    """Grad-CAM with the files of `onnxcam explain`."""
    import onnxcam
    from onnxcam.cli.batch_job import Job
    from onnxcam.cli.progress import ProgressReporter

    explainer = onnxcam.Explainer(job["path"], "grad-cam", device=job["device"])
    out = Path(job["path"]).with_name("maps")
    drawing = {"colormap": None, "opacity": 0.6, "longest_side": 1024}

    def run() -> None:
        shutil.rmtree(out, ignore_errors=True)
        paths = [Path(file) for file in job["files"]]
        Job(explainer, paths, ["top1"], out, drawing, skip_existing=False).run(
            ProgressReporter(len(paths), quiet=True, json=False)
        )

    return run


CONTESTANTS: dict[str, Callable[[dict[str, Any]], Run]] = {
    "plain": plain,
    "onnxcam": onnxcam_maps,
    "saved": onnxcam_saved,
    "prepare": prepare,
    "passes": passes,
}


def contestant(job: dict[str, Any]) -> Run:
    """The contestant of a job, whose name is "throughput NAME"."""
    return CONTESTANTS[job["contestant"].split()[1]](job)


def generate_photographs(folder: Path, count: int) -> list[str]:
    """JPEG files of 640 x 480: noise in several scales compresses like a photograph."""
    draw = np.random.default_rng(0)
    for number in range(count):
        layers: list[Any] = [
            Image.fromarray(
                draw.integers(0, 256, (480 // scale, 640 // scale, 3), np.uint8)
            ).resize((640, 480), Image.Resampling.BICUBIC)
            for scale in (4, 16, 80)
        ]
        pixels: Any = np.average(np.stack(layers), axis=0, weights=(1, 2, 5))
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number:03}.jpg", quality=90)
    return [str(path) for path in sorted(folder.glob("*.jpg"))]


def measure(name: str, files: list[str], folder: Path, rounds: int, threads: int) -> None:
    """Print the seconds of all contestants for one network."""
    path = folder / "model.onnx"
    export(torch_model(NAMES[name]), path)
    job = {"path": str(path), "shape": SHAPE, "classes": CLASSES, "files": files}
    job |= {"device": "cpu", "threads": threads}
    workers = {row: Worker(job | {"contestant": f"throughput {row}"}) for row in CONTESTANTS}
    for _ in range(rounds):
        for worker in workers.values():
            if worker.is_alive:
                worker.run()
    ends = {row: worker.end() for row, worker in workers.items()}
    times = {row: worker.times or [float("nan")] for row, worker in workers.items()}
    floor = min(times["prepare"]) + min(times["passes"])
    for row, seconds in times.items():
        ratios = [ours / theirs for ours, theirs in zip(seconds, times["plain"], strict=False)]
        print(
            f"{name:12} {row:8} {median(seconds):6.2f} s (fastest {min(seconds):5.2f}) "
            f"{1000 * median(seconds) / len(files):6.2f} ms an image {median(ratios):6.2f} x plain "
            f"{min(seconds) / floor:6.2f} x floor {ends[row][0]:5.0f} MB {ends[row][1]}",
            flush=True,
        )


def main(
    images: Annotated[Path | None, typer.Option(help="A folder with JPEG files.")] = None,
    models: Annotated[str, typer.Option(help="Networks, with commas between.")] = ",".join(QUICK),
    rounds: Annotated[int, typer.Option(help="Runs of each contestant.", min=1)] = 5,
    count: Annotated[int, typer.Option(help="How many files.", min=1)] = FILES,
    threads: Annotated[int, typer.Option(help="Of each contestant.")] = 2,
) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "photographs").mkdir()
        photographs = [str(path) for path in sorted(images.rglob("*.jpg"))] if images else []
        files = photographs or generate_photographs(folder / "photographs", 64)
        repeated = [files[number % len(files)] for number in range(count)]
        for name in models.split(","):
            measure(name.strip(), repeated, folder, rounds, threads)


if __name__ == "__main__":
    typer.run(main)
