"""Tract, in Rust. It needs to know all sizes before it runs."""

from __future__ import annotations

from onnxcam.arrays import Array
from onnxcam.portability.foreign_runtime import RUNTIMES, Arrays, ForeignRuntime, Task


def run(task: Task) -> tuple[Arrays, str]:
    """The outputs of the file."""
    import tract

    model = tract.onnx().load(task.model)
    names = [model.input_name(index) for index in range(model.input_count())]
    for index, name in enumerate(names):
        model.set_input_fact(index, _fact(task.feeds[name]))
    outputs = [model.output_name(index) for index in range(model.output_count())]
    for index, name in enumerate(outputs):
        if name not in names:  # what is an output, too, has one type
            model.set_output_fact(index, None)  # declared sizes may have names
    results = model.into_model().into_runnable().run([task.feeds[name] for name in names])
    arrays = [result.to_numpy() for result in results]
    names_of_results = task.outputs if len(outputs) == len(task.outputs) else outputs
    return dict(zip(names_of_results, arrays, strict=True)), tract.version()


def _fact(array: Array) -> str:
    """The type of an array in tract's notation: "1,3,224,224,f32"."""
    kind = {"f": "f", "i": "i", "u": "u"}[array.dtype.kind]
    return ",".join([*map(str, array.shape), f"{kind}{8 * array.dtype.itemsize}"])


RUNTIMES.add("tract", ForeignRuntime(run, "pip install tract", "tract"))
