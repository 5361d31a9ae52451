"""ONNX Runtime in Node, from an installed npm package."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from onnxcam.arrays import Array
from onnxcam.errors import RunError
from onnxcam.portability.foreign_runtime import RUNTIMES, Arrays, ForeignRuntime, Task

PACKAGE = "onnxruntime-node"
SCRIPT = Path(__file__).with_name("node.cjs")


def run(task: Task) -> tuple[Arrays, str]:
    """The outputs of the file."""
    package = (task.node_modules or Path()).resolve() / PACKAGE
    with tempfile.TemporaryDirectory() as folder:
        tensors = [_write(Path(folder), name, array) for name, array in task.feeds.items()]
        job = Path(folder) / "job.json"
        job.write_text(
            json.dumps(
                {
                    "package": str(package),
                    "model": str(task.model.resolve()),
                    "feeds": tensors,
                    "outputs": task.outputs,
                }
            )
        )
        finished = subprocess.run(  # noqa: S603  our own script
            [shutil.which("node") or "node", str(SCRIPT), str(job)],
            capture_output=True,
            text=True,
            check=False,
        )
        if finished.returncode:
            lines = finished.stderr.strip().splitlines()
            raise RunError(next((line for line in lines if "Error" in line), "node failed"))
        described = json.loads((Path(folder) / "outputs.json").read_text())
        arrays = {tensor["name"]: _read(Path(folder), tensor) for tensor in described}
    version = json.loads((package / "package.json").read_text())["version"]
    return arrays, str(version)


def _write(folder: Path, name: str, array: Array) -> dict[str, object]:
    file = folder / f"input-{len(list(folder.iterdir()))}"
    file.write_bytes(np.ascontiguousarray(array).tobytes())
    return {"name": name, "type": array.dtype.name, "dims": array.shape, "file": str(file)}


def _read(folder: Path, tensor: dict[str, object]) -> Array:
    content = (folder / str(tensor["file"])).read_bytes()
    dtype = np.dtype(str(tensor["type"]))
    dims: list[int] = tensor["dims"]  # type: ignore[assignment]
    return np.frombuffer(content, dtype).reshape(dims)


def is_installed(node_modules: Path | None) -> bool:
    """Whether Node is there, and the npm package."""
    has_package = node_modules is not None and (node_modules / PACKAGE / "package.json").is_file()
    return has_package and shutil.which("node") is not None


RUNTIMES.add(
    "node",
    ForeignRuntime(
        run,
        "npm install --ignore-scripts onnxruntime-node, then --runtime node_modules",
        is_installed=is_installed,
    ),
)
