"""What all contestants of other packages share: the network, the image, and how samples are run."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np

from scripts.bench.contestants import Run, measure_seconds, random_image

QUICK = 1.0  # seconds
BATCHES = (4, 16, 32)  # tried for packages that take the number of samples that they run together


def torch_device(job: dict[str, Any]) -> str:
    """What torch calls the device."""
    return str(job["device"]).removesuffix("+tf32")


def torch_and_model(job: dict[str, Any]) -> tuple[Any, Any]:
    from scripts.bench.models import torch_model

    torch = import_module("torch")
    torch.set_num_threads(job["threads"])
    tf32 = job["device"].endswith("+tf32")
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = tf32
    return torch, torch_model(job["model"]).to(torch_device(job))


def tensor_image(job: dict[str, Any], count: int = 1) -> Any:
    """Images that gradients can be taken at."""
    torch = import_module("torch")
    return torch.from_numpy(random_image(job, count)).to(torch_device(job)).requires_grad_()


def probabilities_of(job: dict[str, Any]) -> Callable[[Any], Any]:
    """A function from images (N, C, H, W) to probabilities (N, classes), in NumPy."""
    torch, model = torch_and_model(job)

    def probabilities(images: Any) -> Any:
        x = torch.from_numpy(np.ascontiguousarray(images, np.float32)).to(torch_device(job))
        with torch.no_grad():
            return torch.softmax(model(x), 1).cpu().numpy()

    return probabilities


def at_fastest_batch(make_run: Callable[[int], Run], samples: int) -> Run:
    """The fastest of the runs with so many samples together; quick runs are timed again, when all is warm."""
    sizes = sorted({min(batch, samples) for batch in BATCHES})
    runs = {size: quietly(make_run(size)) for size in sizes}
    seconds = {size: measure_seconds(run) for size, run in runs.items()}
    if max(seconds.values()) < QUICK:
        seconds = {size: measure_seconds(run) for size, run in runs.items()}
    return runs[min(seconds, key=seconds.__getitem__)]


def quietly(run: Run) -> Run:
    """Without progress bars."""

    def quiet_run() -> object:
        with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
            return run()

    return quiet_run
