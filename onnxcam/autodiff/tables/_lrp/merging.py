"""Where a layer begins and ends: BatchNormalization, and other factors and constants of a channel, are merged
with the linear operator before them. What comes before the first layer prepares the image.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs

from onnxcam.arrays import Array, Floats
from onnxcam.autodiff.tables._lrp.constants import is_image
from onnxcam.graph.constants import constant_values
from onnxcam.graph.operators import traits_of
from onnxcam.graph.reachability import producer
from onnxcam.graph.tracing import Value

CONVOLUTIONS = ("Conv", "ConvTranspose")
PRODUCTS = ("MatMul", "Gemm", "Einsum")
ARITHMETIC = ("Add", "Sub", "Mul", "Div")


@dataclass(frozen=True)
class Affine:
    """scale z + shift, for each channel or for all of them: what follows a linear operator z."""

    output: Value
    scale: Floats
    shift: Floats


def is_layer(node: gs.Node) -> bool:
    """Whether a node is a convolution, or a product with weights that do not depend on the image."""
    if node.op in CONVOLUTIONS:
        return True
    return node.op in PRODUCTS and any(not is_image(x) for x in node.inputs[:2])


def is_before_layers(tensor: gs.Tensor) -> bool:
    """Whether no layer lies between the image and a tensor."""
    visited, waiting = set(), [tensor]
    while waiting:
        node = producer(waiting.pop())
        if node is None or id(node) in visited:
            continue
        if is_layer(node):
            return False
        visited.add(id(node))
        if not traits_of(node).reads_shape:
            waiting.extend(node.inputs)
    return True


def affine_after(y: Value) -> Affine:
    """What is merged with the layer that writes y."""
    node, scale, shift = y.tensor.inputs[0], np.ones(1), np.zeros(1)
    axis, tensor = _channel_axis(node), y.tensor
    while (reader := _only_reader(tensor)) is not None and (
        step := _step(reader, tensor, axis)
    ) is not None:
        factor, summand = step
        scale, shift = scale * factor, shift * factor + summand
        tensor = reader.outputs[0]
    return Affine(Value(y.build, tensor), scale, shift)


def is_merged(node: gs.Node) -> bool:
    """Whether a node is merged with a layer before it."""
    readers = []
    while True:
        readers.append(node)
        variables = [x for x in node.inputs if constant_values(x) is None and not x.is_empty()]
        before = producer(variables[0]) if len(variables) == 1 else None
        if before is None or _only_reader(variables[0]) is not node:
            return False
        if is_layer(before):
            axis = _channel_axis(before)
            return all(_step(reader, _variable(reader), axis) is not None for reader in readers)
        if before.op not in (*ARITHMETIC, "BatchNormalization"):
            return False
        node = before


def _variable(node: gs.Node) -> gs.Tensor:
    return next(x for x in node.inputs if constant_values(x) is None and not x.is_empty())


def _only_reader(tensor: gs.Tensor) -> gs.Node | None:
    return tensor.outputs[0] if len(tensor.outputs) == 1 else None


def _channel_axis(node: gs.Node) -> int:
    """The axis of the channels, counted from the end: those of a product are the last."""
    if node.op not in CONVOLUTIONS:
        return -1
    return 1 - len(node.outputs[0].shape)


def _step(node: gs.Node, tensor: gs.Tensor, axis: int) -> tuple[Floats, Floats] | None:
    """The factor and the summand of each channel that a node applies to a tensor; None if it does more."""
    if node.op == "BatchNormalization":
        return batch_norm_step(node) if axis == 1 - len(tensor.shape or ()) else None
    if node.op not in ARITHMETIC or len(node.inputs) != 2:
        return None
    slot = 0 if node.inputs[0] is tensor else 1
    constant = constant_values(node.inputs[1 - slot])
    values = None if constant is None else _per_channel(constant, tensor, axis)
    if values is None or (node.op == "Div" and (slot == 1 or not np.all(values))):
        return None
    one, zero = np.ones(1), np.zeros(1)
    if node.op == "Sub":
        return (one, -values) if slot == 0 else (-one, values)
    if node.op == "Add":
        return one, values
    return (values if node.op == "Mul" else 1 / values), zero


def batch_norm_step(node: gs.Node) -> tuple[Floats, Floats] | None:
    """gamma / sigma and beta - gamma mu / sigma; None if they are not constant."""
    constants = [constant_values(x) for x in node.inputs[1:5]]
    if any(constant is None for constant in constants):
        return None
    gamma, beta, mean, variance = (np.asarray(values, np.float64) for values in constants)
    scale = gamma / np.sqrt(variance + node.attrs.get("epsilon", 1e-5))
    return scale, beta - scale * mean


def _per_channel(constant: Array, tensor: gs.Tensor, axis: int) -> Floats | None:
    """A constant as (1,) or (channels,); None if it differs within a channel, or adds axes."""
    rank = len(tensor.shape or ())
    if constant.ndim > rank or not rank:
        return None
    sizes = (1,) * (rank - constant.ndim) + constant.shape
    others = [size for number, size in enumerate(sizes) if number != rank + axis]
    is_broadcast = sizes[axis] != 1 and tensor.shape[axis] == 1
    if any(size != 1 for size in others) or is_broadcast:
        return None
    return np.asarray(constant, np.float64).ravel()
