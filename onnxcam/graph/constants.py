"""The values of constants, also of those that are stored as integers and dequantized."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import onnx_graphsurgeon as gs

from onnxcam.arrays import Array
from onnxcam.graph.operators import CONTRIB
from onnxcam.graph.reachability import producer

Quantized: TypeAlias = Sequence[gs.Tensor]  # the integers, their scale and zero point


def is_operator(node: gs.Node, operator: str) -> bool:
    """Whether a node is this operator of ONNX or of ONNX Runtime's own domain."""
    return node.op == operator and node.domain in (None, "", "ai.onnx", CONTRIB)


def quantizer_of(quantized: gs.Tensor) -> gs.Node | None:
    """The node that quantizes floats to these integers; None if there is none."""
    node = producer(quantized)
    if node is None or not (
        is_operator(node, "QuantizeLinear") or is_operator(node, "DynamicQuantizeLinear")
    ):
        return None
    return node if node.outputs[0] is quantized else None


def dequantize(quantized: Quantized, axis: int) -> Array:
    """(q - zero) scale, as DequantizeLinear computes it; one scale for all, or one per slice along `axis`."""
    integers, scale, zero = quantized
    values = integers.values.astype(np.int32)

    def along(array: Array) -> Array:
        if array.size == 1:
            return np.ravel(array)[0]
        shape = [1] * values.ndim
        shape[axis] = array.size
        return array.reshape(shape)

    if not zero.is_empty():
        values = values - along(zero.values.astype(np.int32))
    floats: Array = values.astype(scale.values.dtype) * along(scale.values)
    return floats


def constant_values(tensor: gs.Tensor) -> Array | None:
    """The values of a constant or of a dequantized constant; None for other tensors."""
    if isinstance(tensor, gs.Constant):
        return tensor.values
    node = producer(tensor)
    if node is None or not is_operator(node, "DequantizeLinear") or node.attrs.get("block_size"):
        return None
    if not all(isinstance(tensor, gs.Constant) or tensor.is_empty() for tensor in node.inputs):
        return None
    integers, scale, *zero = node.inputs
    quantized = (integers, scale, zero[0] if zero else gs.Variable.empty())
    return dequantize(quantized, node.attrs.get("axis", 1))
