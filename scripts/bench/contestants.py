"""One contestant of bench.py in a process of its own: it sets itself up, then runs once for every line.

    python -m scripts.bench.contestants '{"contestant": "onnxcam", "path": "resnet18.onnx", ...}'

A contestant is a function that takes the job and returns what is timed, a function without arguments.
It prints "ready" after one run to warm up, then the seconds of each run, and last its peak memory in bytes.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import math
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

Run = Callable[[], object]
Contestant = Callable[[dict[str, Any]], Run]
BATCHES = {"cpu": (1, 2, 4, 8, 16), "cuda": (1, 4, 16, 32, 64, 128)}  # tried for the plain model
CLASS = 3
TUNING_RUNS, TUNING_SECONDS = 3, 10.0
LONG = 0.5  # seconds that are timed at least; short runs are repeated
PAUSE = 0.3  # seconds in which the threads of the contestant before give up waiting for work


def random_image(job: dict[str, Any], count: int = 1) -> Any:
    """Images (count, 3, H, W), float32, the same for every contestant."""
    shape = (count, *job["shape"])
    return np.random.default_rng(0).standard_normal(shape, dtype=np.float32)


def kind(job: dict[str, Any]) -> str:
    """cpu or cuda."""
    return "cuda" if job["device"].startswith("cuda") else "cpu"


def plain(job: dict[str, Any]) -> Run:
    """The model itself for as many images as the job has passes, at its fastest batch: the floor."""
    session = session_of(Path(job["path"]).read_bytes(), job)
    name, passes = session.get_inputs()[0].name, int(job["passes"])
    sizes = [size for size in BATCHES[kind(job)] if size <= passes]
    images = {
        size: random_image(job, size) for size in {*sizes, *(passes % size for size in sizes)}
    }

    def run(batch: int, count: int) -> None:
        for start in range(0, count, batch):
            session.run(None, {name: images[min(batch, count - start)]})

    def cost(batch: int) -> float:
        run(batch, batch)
        return min(measure_seconds(lambda: run(batch, batch)) for _ in range(3)) / batch

    best = min(sizes, key=cost)
    return lambda: run(best, passes)


def session_of(
    content: bytes, job: dict[str, Any], cuda_options: Mapping[str, str] | None = None
) -> Any:
    """A session on the device, with onnxcam's options and `cuda_options`; an error if that falls back."""
    import onnxruntime

    from onnxcam.runtime.device import find_device

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = job["threads"]
    providers: list[Any] = list(find_device(job["device"]).providers)
    if cuda_options:
        providers[0] = (providers[0][0], {**providers[0][1], **cuda_options})
    session = onnxruntime.InferenceSession(content, options, providers=providers)
    if len(session.get_providers()) < len(providers):
        raise RuntimeError(f"ONNX Runtime fell back to {', '.join(session.get_providers())}")
    return session


def onnxcam_method(job: dict[str, Any]) -> Run:
    """A method of onnxcam at its layer, if it has one."""
    import onnxcam

    explainer = onnxcam.Explainer(
        job["path"],
        job["method"],
        job.get("layer", "auto"),
        device=job["device"],
        **job["settings"],
    )
    x = random_image(job)
    return lambda: explainer(x, CLASS)


def onnxcam_tuned(job: dict[str, Any]) -> Run:
    """The same after runs in which it finds its fastest chunks."""
    run, start = onnxcam_method(job), time.perf_counter()
    for _ in range(TUNING_RUNS):
        if time.perf_counter() - start < TUNING_SECONDS:
            run()
    return run


def onnxcam_gradient(job: dict[str, Any]) -> Run:
    """The gradient at the image, of eight images, in chunks as they were found to be fastest."""
    import onnxcam
    from onnxcam.runtime.chunks import chunked_runner
    from onnxcam.runtime.device import find_device
    from onnxcam.runtime.session import Session

    model = onnxcam.load(job["path"])
    name = model.graph.inputs[0].name
    content, where = onnxcam.gradient(model, [name]).bytes(), find_device(job["device"])

    def reopen(threads: int) -> Session:
        return Session(content, where, threads=threads)

    runs = chunked_runner(Session(content, where), None, None, frozenset(), reopen)
    feeds = {name: random_image(job, 8), "seed": _one_hot(job, 8)}

    def run() -> object:
        chunks = runs.run(
            [f"gradient/{name}"], 8, lambda part: {k: v[part] for k, v in feeds.items()}
        )
        return [array for _, array in chunks]

    while runs.tuner and not runs.tuner.is_done:
        run()
    return run


def _one_hot(job: dict[str, Any], count: int) -> Any:
    seed = np.zeros((count, job["classes"]), np.float32)
    seed[:, CLASS] = 1
    return seed


def onnx_ad(job: dict[str, Any]) -> Run:
    """The reverse graph of the package onnx-ad, for eight images."""
    import onnx

    model = onnx.load(job["fixed_path"])
    name, score = model.graph.input[0].name, model.graph.output[0].name
    reverse = importlib.import_module("onnx_ad").reverse(model, [name], [score], layout="onnx")
    session = session_of(reverse.SerializeToString(), job)
    seeds = {tensor.name for tensor in session.get_inputs()} - {name}
    feeds = {
        name: random_image(job, 8),
        **{seed_name: _one_hot(job, 8)[..., None] for seed_name in seeds},
    }
    outputs = [tensor.name for tensor in session.get_outputs() if tensor.name != score]
    return lambda: session.run(outputs, feeds)


def peer(job: dict[str, Any]) -> Run:
    """Another package (see `peers`)."""
    return importlib.import_module("scripts.bench.peers").PACKAGES[job["contestant"]].prepare(job)


def bound(job: dict[str, Any]) -> Run:
    """Passes in ways that onnxcam's runtime does not have (see `bound`)."""
    return importlib.import_module("scripts.bench.bound").prepare(job)


def throughput(job: dict[str, Any]) -> Run:
    """Many image files (see `throughput`)."""
    return importlib.import_module("scripts.bench.throughput").contestant(job)


THROUGHPUT = tuple(
    f"throughput {row}" for row in ("plain", "onnxcam", "saved", "prepare", "passes")
)
BOUND = tuple(
    f"{model} {way}" for model in ("plain", "onnxcam") for way in ("fed", "bound", "graph")
)
PEERS = (
    *("torch-cam", "pytorch-grad-cam", "captum", "zennit", "saliency"),
    *("dianna", "lime", "openvino-xai", "legrad-torch"),
)
CONTESTANTS: dict[str, Contestant] = {
    **dict.fromkeys(PEERS, peer),
    **dict.fromkeys(BOUND, bound),
    **dict.fromkeys(THROUGHPUT, throughput),
    "plain": plain,
    "onnxcam": onnxcam_method,
    "onnxcam gradient": onnxcam_gradient,
    "onnxcam tuned": onnxcam_tuned,
    "onnx-ad": onnx_ad,
}


def measure_seconds(run: Run) -> float:
    """How long one run takes."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def peak_memory(kind: str) -> float:
    """The peak memory of this process, in bytes (getrusage includes the parent's); on CUDA the memory that all
    processes use on the device now, as ONNX Runtime and torch keep what they once took.
    """
    if kind == "cuda":
        return _device_memory()
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split("VmHWM:")[1].split()[0])


def _device_memory() -> float:
    """Bytes in use on the current device, or the first one, from the driver; NaN without an answer."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return math.nan
    free, total, context = ctypes.c_size_t(), ctypes.c_size_t(), ctypes.c_void_p()
    if driver.cuMemGetInfo_v2(ctypes.byref(free), ctypes.byref(total)):
        driver.cuInit(0)
        driver.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0)
        driver.cuCtxSetCurrent(context)
        if driver.cuMemGetInfo_v2(ctypes.byref(free), ctypes.byref(total)):
            return math.nan
    return total.value - free.value


def load_cuda_libraries() -> None:
    """Load those that come with torch, if it is installed, so that ONNX Runtime finds them."""
    with contextlib.suppress(ImportError):
        importlib.import_module("torch")


def main() -> None:
    job = json.loads(sys.argv[1])
    with contextlib.redirect_stdout(sys.stderr):
        if kind(job) == "cuda":
            load_cuda_libraries()
        run = CONTESTANTS[job["contestant"]](job)
        run()
        loops = max(1, round(LONG / measure_seconds(run)))
    print("ready", flush=True)
    for _ in sys.stdin:
        time.sleep(PAUSE)
        with contextlib.redirect_stdout(sys.stderr):
            seconds = measure_seconds(lambda: [run() for _ in range(loops)]) / loops
        print(seconds, flush=True)
    print(peak_memory(kind(job)), flush=True)


if __name__ == "__main__":
    main()
