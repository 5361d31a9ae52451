"""Functions of arrays, written into a graph and run by ONNX Runtime."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from onnxcam.arrays import Array, Shape
from onnxcam.errors import NeedsOpsetError
from onnxcam.graph.opset import IR_VERSION, NEWEST
from onnxcam.graph.tracing import Builder
from tests.autodiff.support.check import run

RESULT = "result"


def run_written(
    function: Callable[..., Any],
    arrays: Mapping[str, Array],
    *,
    shapes: Mapping[str, Shape] | None = None,
    opset: int = NEWEST,
) -> Any:
    """What ONNX Runtime computes for a function of inputs with these names; by name, if the function returns
    several. `shapes` are those that the graph declares, where they are not the arrays'. The opset is that which
    the function needs, if it is newer.
    """
    graph = gs.Graph(opset=opset, import_domains=[onnx.helper.make_opsetid("", opset)])
    build = Builder(graph)
    inputs = [
        build.input(name, array.dtype, (shapes or {}).get(name, array.shape))
        for name, array in arrays.items()
    ]
    try:
        result = function(*inputs)
        results = result if isinstance(result, dict) else {RESULT: result}
        for name, value in results.items():
            build.output(value, name)
    except NeedsOpsetError as error:
        return run_written(function, arrays, shapes=shapes, opset=error.opset)
    proto = gs.export_onnx(build.graph, ir_version=IR_VERSION)
    computed = dict(zip(results, run(proto, arrays, [*results]), strict=True))
    return computed if isinstance(result, dict) else computed[RESULT]


def float32(arrays: Mapping[str, Any]) -> dict[str, Any]:
    """The arrays in float32."""
    return {name: array.astype(np.float32) for name, array in arrays.items()}
