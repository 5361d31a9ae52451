"""What depends on the image, and which factor of a product counts as a constant all the same (Ali et al. 2022,
arXiv:2202.07304).

Attention matrices, gates, and one divided by a norm: the relevance of the product goes to the other factor.
"""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from onnxcam.autodiff.tables._rectifiers import RECTIFIERS, gate_of
from onnxcam.dense import WHERE
from onnxcam.graph.constants import constant_values
from onnxcam.graph.operators import traits_of
from onnxcam.graph.reachability import captured_tensors, producer
from onnxcam.graph.tracing import Value

MOST_NODES = 16  # between a factor and the function that makes it a gate
GATES = {"Sigmoid", "HardSigmoid", "Softmax", "Reciprocal"}
LINES = {"Add", "Sub", "Mul", "Div", "Where", "Dropout", "onnxcam::DequantizeLinear"}


def is_image(tensor: gs.Tensor) -> bool:
    """Whether the values of a tensor depend on an input of the model that is no weight of positions; others may
    be computed, too.
    """
    visited, waiting = set(), [tensor]
    while waiting:
        current = waiting.pop()
        node = producer(current)
        if node is None:
            is_input = not isinstance(current, gs.Constant) and not current.is_empty()
            if is_input and current.name != WHERE:
                return True
        elif id(node) not in visited and not traits_of(node).reads_shape:
            visited.add(id(node))
            waiting.extend((*node.inputs, *captured_tensors(node)))
    return False


def constant_slot(y: Value) -> int | None:
    """The input of the product y that counts as a constant; None if it is neither or both."""
    node = y.tensor.inputs[0]
    if gate := gate_of(node):
        return gate.slot
    slots = [slot for slot in (0, 1) if _is_gate(node.inputs[slot], y.build.opset)]
    return slots[0] if len(slots) == 1 else None


def _is_gate(tensor: gs.Tensor, opset: int) -> bool:
    """Whether a tensor is a gate, an attention matrix or the inverse of a norm, moved, masked or scaled."""
    for _ in range(MOST_NODES):
        node = producer(tensor)
        if node is None:
            return False
        if node.op in GATES or _is_clipped_line(node, opset) or _is_quotient(node):
            return True
        variables = [x for x in node.inputs if not x.is_empty() and constant_values(x) is None]
        if node.op == "Where":
            variables = [x for x in variables if x is not node.inputs[0]]
        is_line = node.op in LINES or traits_of(node).moves not in (None, "join", "select")
        if not is_line or not variables or (node.op in LINES and len(variables) > 1):
            return False
        tensor = variables[0]
    return False


def _is_clipped_line(node: gs.Node, opset: int) -> bool:
    """Whether a node clips both ends of a line, as in Clip(x + 3, 0, 6) / 6: a rectifier clips one."""
    if node.op == "Clip":
        return not RECTIFIERS["Clip"](node, opset) and _is_line(producer(node.inputs[0]))
    if node.op not in ("Min", "Max"):
        return False
    inner = [before for x in node.inputs if (before := producer(x))]
    return any(
        before.op in ("Relu", "Min", "Max") and any(_is_line(producer(x)) for x in before.inputs)
        for before in inner
    )


def _is_line(node: gs.Node | None) -> bool:
    """Whether a node adds a number."""
    return (
        node is not None
        and node.op == "Add"
        and any(constant_values(x) is not None for x in node.inputs)
    )


def _is_quotient(node: gs.Node) -> bool:
    """Whether a node is a softmax or the inverse of a norm in parts: exp / sum, 1 / norm, or variance^-0.5."""
    if node.op == "Div":
        dividend = producer(node.inputs[0])
        is_exp = dividend is not None and dividend.op == "Exp"
        return is_exp or constant_values(node.inputs[0]) is not None
    exponent = constant_values(node.inputs[1]) if node.op == "Pow" else None
    return exponent is not None and bool(np.all(np.asarray(exponent, np.float64) < 0))
