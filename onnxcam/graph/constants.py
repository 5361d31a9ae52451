"""The values of constants, also of those that are stored as integers and dequantized."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import onnx_graphsurgeon as gs

from onnxcam.arrays import Array
from onnxcam.graph.operators import CONTRIB
from onnxcam.graph.reachability import producer

Quantised: TypeAlias = Sequence[gs.Tensor]  # integers, their scale, their zero point


def is_operator(node: gs.Node, operator: str) -> bool:
    """Whether a node is QuantizeLinear or its like, of ONNX or of ONNX Runtime's own domain."""
    return node.op == operator and node.domain in (None, "", "ai.onnx", CONTRIB)


def quantizer_of(quantised: gs.Tensor) -> gs.Node | None:
    """The node that rounds floats to these integers."""
    node = producer(quantised)
    if node is None or not (
        is_operator(node, "QuantizeLinear") or is_operator(node, "DynamicQuantizeLinear")
    ):
        return None
    return node if node.outputs[0] is quantised else None


def dequantised(quantised: Quantised, axis: int) -> Array:
    """(q - zero) scale in float32, as DequantizeLinear computes it; one scale, or one a slice of `axis`."""
    whole, scale, zero = quantised
    values = whole.values.astype(np.int32)

    def along(array: Array) -> Array:
        if array.size == 1:
            return np.ravel(array)[0]
        shape = [1] * values.ndim
        shape[axis] = array.size
        return array.reshape(shape)

    if not zero.is_empty():
        values = values - along(zero.values.astype(np.int32))
    found: Array = values.astype(scale.values.dtype) * along(scale.values)
    return found


def constant_values(tensor: gs.Tensor) -> Array | None:
    """The values of a constant, also of a dequantised one; None for what is not constant."""
    if isinstance(tensor, gs.Constant):
        return tensor.values
    node = producer(tensor)
    if node is None or not is_operator(node, "DequantizeLinear") or node.attrs.get("block_size"):
        return None
    if not all(isinstance(each, gs.Constant) or each.is_empty() for each in node.inputs):
        return None
    whole, scale, *zero = node.inputs
    quantised = (whole, scale, zero[0] if zero else gs.Variable.empty())
    return dequantised(quantised, node.attrs.get("axis", 1))
