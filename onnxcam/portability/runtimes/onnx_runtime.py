"""ONNX Runtime on the CPU: what the others are compared with."""

from __future__ import annotations

from onnxcam.portability.foreign_runtime import RUNTIMES, Arrays, ForeignRuntime, Task

NAME = "onnxruntime"


def run(task: Task) -> tuple[Arrays, str]:
    """The outputs of the file."""
    from onnxcam.runtime.device import Device
    from onnxcam.runtime.session import Session, versions

    session = Session(task.model, Device("cpu"))
    arrays = session.run(task.outputs, task.feeds)
    return dict(zip(task.outputs, arrays, strict=True)), versions()[NAME]


RUNTIMES.add(NAME, ForeignRuntime(run, "pip install onnxruntime", NAME))
