"""Contestants of bench.py that keep inputs and outputs on the device.

They run the plain model, or the model with its gradients at the layer, in batches of one size:

    fed    arrays are copied to the device and back, as `session.run` does
    bound  inputs and outputs stay where the model runs (IO binding)
    graph  bound, and the kernels of a run are recorded once and replayed together (CUDA graphs)
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from scripts.bench.contestants import CLASS, Run, kind, random_image, session_of

LARGEST_BATCH = {"cpu": 8, "cuda": 64}


def prepare(job: dict[str, Any]) -> Run:
    """What is timed: as many passes as the job has."""
    model, way = job["contestant"].split()
    if way == "graph" and kind(job) == "cpu":
        raise RuntimeError("CUDA graphs are for CUDA")
    passes = int(job["passes"])
    batch = max(size for size in range(1, LARGEST_BATCH[kind(job)] + 1) if passes % size == 0)
    content, outputs = _with_gradients(job) if model == "onnxcam" else _load_plain(job)
    feeds, results = _run_once(content, outputs, job, batch)
    session = session_of(content, job, {"enable_cuda_graph": "1"} if way == "graph" else {})
    if way == "fed":
        return lambda: [session.run(outputs, feeds) for _ in range(passes // batch)]
    binding = _bind(session, feeds, results, job)

    def run() -> None:
        for _ in range(passes // batch):
            session.run_with_iobinding(binding)
        binding.synchronize_outputs()

    return run


def _load_plain(job: dict[str, Any]) -> tuple[bytes, list[str]]:
    from onnx import load

    path = Path(job["path"])
    model = load(path, load_external_data=False)
    return path.read_bytes(), [model.graph.output[0].name]


def _with_gradients(job: dict[str, Any]) -> tuple[bytes, list[str]]:
    import onnxcam

    augmented = onnxcam.augment(onnxcam.load(job["path"]), [job["layer"]])
    return augmented.bytes(), [f"gradient/{job['layer']}"]


def _run_once(
    content: bytes, outputs: list[str], job: dict[str, Any], batch: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The inputs (images, and one-hot cotangents for the model with gradients) and the outputs for them."""
    session = session_of(content, job)
    image, *seeds = session.get_inputs()
    feeds = {image.name: random_image(job, batch)}
    for seed in seeds:
        feeds[seed.name] = np.zeros((batch, *seed.shape[1:]), np.float32)
        feeds[seed.name].reshape(batch, -1)[:, CLASS] = 1
    return feeds, dict(zip(outputs, session.run(outputs, feeds), strict=True))


def _bind(session: Any, feeds: dict[str, Any], results: dict[str, Any], job: dict[str, Any]) -> Any:
    """Bind inputs, and space for results of these shapes, where the model runs."""
    from onnxruntime import OrtValue

    from onnxcam.runtime.device import find_device

    chosen = find_device(job["device"])
    place, binding = (chosen.kind, chosen.index), session.io_binding()
    for name, array in feeds.items():
        binding.bind_ortvalue_input(name, OrtValue.ortvalue_from_numpy(array, *place))
    for name, array in results.items():
        result = OrtValue.ortvalue_from_shape_and_type(array.shape, array.dtype, *place)
        binding.bind_ortvalue_output(name, result)
    return binding
