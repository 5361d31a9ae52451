"""OpenVINO on the CPU, in float32: by default it computes in bfloat16 where the CPU can."""

from __future__ import annotations

from onnxcam.portability.foreign_runtime import RUNTIMES, Arrays, ForeignRuntime, Task

FLOAT32 = {"INFERENCE_PRECISION_HINT": "f32"}


def run(task: Task) -> tuple[Arrays, str]:
    """The outputs of the file."""
    import openvino

    core = openvino.Core()
    compiled = core.compile_model(core.read_model(str(task.model)), "CPU", FLOAT32)
    results = compiled(dict(task.feeds))
    return {name: results[name] for name in task.outputs}, openvino.__version__.split("-")[0]


RUNTIMES.add("openvino", ForeignRuntime(run, "pip install openvino", "openvino"))
