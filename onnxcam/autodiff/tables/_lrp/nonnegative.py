"""Which tensors have no negative numbers: the other half of a z+ rule is zero there, and not written."""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from onnxcam.arrays import Array
from onnxcam.graph.attributes import argument
from onnxcam.graph.constants import constant_values
from onnxcam.graph.operators import traits_of
from onnxcam.graph.reachability import producer

MOST_NODES = 64
NEVER_NEGATIVE = {"Relu", "Abs", "Softplus", "ReduceL1", "ReduceL2"}
KEEP_SIGN = {"Add", "Sum", "Mul", "Concat", "Mean"}  # of operands of which none is negative


def is_nonnegative(tensor: gs.Tensor, opset: int) -> bool:
    """Whether no number of a tensor can be negative; False where that is not proven."""
    waiting, visited = [tensor], set()
    for _ in range(MOST_NODES):
        if not waiting:
            return True
        current = waiting.pop()
        node = producer(current)
        if node is None:
            constant = constant_values(current)
            if constant is None or not _has_no_negative(constant):
                return False
        elif id(node) not in visited and not _writes_no_negative(node, opset):
            visited.add(id(node))
            traits = traits_of(node)
            if node.op in KEEP_SIGN:
                waiting.extend(node.inputs)
            elif traits.keeps_range or traits.moves not in (None, "pad", "join"):
                waiting.append(node.inputs[0])
            else:
                return False
    return False


def _writes_no_negative(node: gs.Node, opset: int) -> bool:
    """Whether an operator has no negative output for any input."""
    low, _ = traits_of(node).output_range or (-1.0, 1.0)
    if node.op == "Clip":
        bound = argument(node, "min", opset)
        if isinstance(bound, gs.Variable):
            bound = constant_values(bound)
        return bound is not None and _has_no_negative(np.asarray(bound))
    if node.op == "Max":
        constants = [constant_values(x) for x in node.inputs]
        return any(values is not None and _has_no_negative(values) for values in constants)
    return node.op in NEVER_NEGATIVE or low >= 0


def _has_no_negative(values: Array) -> bool:
    return bool(np.all(np.asarray(values, np.float64) >= 0))
