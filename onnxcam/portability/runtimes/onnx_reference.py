"""ONNX's own evaluator in NumPy: slow, and the closest to the standard."""

from __future__ import annotations

from onnxcam.portability.foreign_runtime import RUNTIMES, Arrays, ForeignRuntime, Task


def run(task: Task) -> tuple[Arrays, str]:
    """The outputs of the file."""
    import onnx
    from onnx.reference import ReferenceEvaluator

    arrays = ReferenceEvaluator(str(task.model)).run(list(task.outputs), dict(task.feeds))
    return dict(zip(task.outputs, arrays, strict=True)), onnx.__version__


RUNTIMES.add("onnx-reference", ForeignRuntime(run, "pip install onnx", "onnx"))
