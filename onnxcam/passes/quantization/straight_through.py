"""Connect the floats before a quantization with those after it, so that gradients pass straight through.

A quantized model computes y = DequantizeLinear(QuantizeLinear(x)): x rounded to a grid. No derivative passes
through integers, and that of a staircase is zero. The straight-through estimator (Bengio, Leonard and Courville
2013, arXiv:1308.3432) takes dx = dy where x is within the range that the integers can represent, else 0, as for
a Clip to that range.

Each DequantizeLinear of a quantized x becomes an operator of the same name in onnxcam's own domain. Beside the
inputs of DequantizeLinear it reads x and its range, and it has a gradient rule
(`autodiff/rules/quantization.py`). Written files contain the DequantizeLinear again, so that the forward pass
is the same bit for bit.

Assumes that each DequantizeLinear reads the output of a QuantizeLinear directly (`hoist_dequantize`) if it can.
"""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from onnxcam.arrays import Array
from onnxcam.graph.constants import is_operator, quantizer_of
from onnxcam.graph.operators import CONTRIB, DOMAIN, traits_of
from onnxcam.graph.reachability import producer

FLOATS = 3  # the input of a DequantizeLinear that holds x
RANGES = {
    "uint4": (0, 15),
    "int4": (-8, 7),
    "uint8": (0, 255),
    "int8": (-128, 127),
    "uint16": (0, 65535),
    "int16": (-32768, 32767),
}


def is_quantized(graph: gs.Graph) -> bool:
    """Whether a model computes with quantized numbers anywhere."""
    return any(
        node.op.endswith("QuantizeLinear")
        or node.op.startswith("QLinear")
        or node.op in ("ConvInteger", "MatMulInteger", "QGemm")
        for node in graph.nodes
    )


def attach_float_sources(graph: gs.Graph) -> gs.Graph:
    """Let every DequantizeLinear read the floats that its integers were quantized from, in place; returns the
    graph.
    """
    for node in graph.nodes:
        if not is_operator(node, "DequantizeLinear"):
            continue
        quantizer = quantizer_of(node.inputs[0])
        if quantizer is None or not _have_same_scale(node, quantizer):
            continue
        x, limits = quantizer.inputs[0], _gradient_limits(node, quantizer)
        missing = [gs.Variable.empty()] * (FLOATS - len(node.inputs))
        node.inputs.extend([*missing, x, *limits])
        node.attrs["contrib"] = int(node.domain == CONTRIB)
        node.domain = DOMAIN
    return graph


def float_source(node: gs.Node) -> gs.Tensor | None:
    """The floats that a DequantizeLinear of onnxcam's domain passes straight through; None for other nodes."""
    return node.inputs[FLOATS] if node.domain == DOMAIN else None


def detach_float_sources(graph: gs.Graph) -> gs.Graph:
    """A graph with standard operators instead of those of onnxcam's domain: a copy if there are any."""
    if not any(node.domain == DOMAIN for node in graph.nodes):
        return graph
    detached = graph.copy()
    for node in detached.nodes:
        if node.domain == DOMAIN:
            node.domain = CONTRIB if node.attrs.pop("contrib") else None
            inputs = [tensor for tensor in list(node.inputs)[:FLOATS] if not tensor.is_empty()]
            node.inputs.clear()
            node.inputs.extend(inputs)
    return detached


def _have_same_scale(node: gs.Node, quantizer: gs.Node) -> bool:
    """Whether a DequantizeLinear and the quantizer of its integers use one scale and zero point."""
    if quantizer.op == "DynamicQuantizeLinear":
        names = [tensor.name for tensor in quantizer.outputs[1:]]
        return [tensor.name for tensor in node.inputs[1:3]] == names
    if node.attrs.get("block_size") or quantizer.attrs.get("block_size"):
        return False
    ours, theirs = _scale_and_zero(node), _scale_and_zero(quantizer)
    if not all(_are_equal(a, b) for a, b in zip(ours, theirs, strict=True)):
        return False
    same_axis = node.attrs.get("axis", 1) == quantizer.attrs.get("axis", 1)
    return same_axis or (ours[0] is not None and ours[0].size == 1)


def _are_equal(first: Array | None, second: Array | None) -> bool:
    if first is None or second is None:
        return False
    return first.shape == second.shape and np.array_equal(first, second)


def _scale_and_zero(node: gs.Node) -> tuple[Array | None, NDArray[np.int64] | None]:
    """The scale and zero point of a QuantizeLinear or DequantizeLinear; None for one that is not constant."""
    scale = node.inputs[1]
    zero = node.inputs[2] if len(node.inputs) > 2 else gs.Variable.empty()
    values = scale.values if isinstance(scale, gs.Constant) else None
    if zero.is_empty():
        return values, None if values is None else np.zeros(values.shape, np.int64)
    return values, zero.values.astype(np.int64) if isinstance(zero, gs.Constant) else None


MOVES_IN_RANGE = ("identity", "view", "transpose", "blocks", "slice")


def _value_range(tensor: gs.Tensor) -> tuple[float, float]:
    """Bounds of all values of a tensor, infinite if none are known."""
    node = producer(tensor)
    if node is None or (node.domain and node.domain != DOMAIN):
        return -np.inf, np.inf
    if node.domain == DOMAIN:
        ends = _representable_range(node)
        return (-np.inf, np.inf) if ends is None else (ends[0].min(), ends[1].max())
    traits = traits_of(node)
    if traits.keeps_range or traits.moves in MOVES_IN_RANGE:
        low, high = _value_range(node.inputs[0])
        return min(low, 0.0), max(high, 0.0)  # pads are zeros
    if node.op == "Clip" and all(isinstance(bound, gs.Constant) for bound in node.inputs[1:]):
        bounds = [float(np.ravel(bound.values)[0]) for bound in node.inputs[1:]]
        return (bounds[0], bounds[1]) if len(bounds) > 1 else (-np.inf, np.inf)
    return traits.output_range or (-np.inf, np.inf)


def _representable_range(node: gs.Node) -> list[NDArray[np.float64]] | None:
    """The lowest and the highest number that a DequantizeLinear can write; None if they are not known."""
    bounds = RANGES.get(str(np.dtype(node.inputs[0].dtype)))
    scale, zero = _scale_and_zero(node)
    if bounds is None or scale is None or zero is None:
        return None
    return [np.asarray((bound - zero) * scale.astype(np.float64)) for bound in bounds]


def _gradient_limits(node: gs.Node, quantizer: gs.Node) -> list[gs.Tensor]:
    """The lowest and the highest number that the integers represent, beyond which the gradient is 0.

    None of them for a range that is fitted at run time, and for values that are never out of range by half a
    step: without this mask, the gradient may be found to be constant.
    """
    x, name, ends = quantizer.inputs[0], node.outputs[0].name, _representable_range(node)
    if ends is None or (ends[0].size > 1 and x.shape is None):
        return []
    low, high = _value_range(x)
    step = np.asarray(node.inputs[1].values, np.float64)
    if np.all(ends[0] - step / 2 <= low) and np.all(high <= ends[1] + step / 2):
        return []
    shape = [1] * (len(x.shape) if step.size > 1 else 0)
    if step.size > 1:
        shape[quantizer.attrs.get("axis", 1)] = step.size
    with np.errstate(over="ignore"):  # an end beyond the dtype is infinite: no value reaches it
        return [
            gs.Constant(f"{name}/{suffix}", np.asarray(end, x.dtype).reshape(shape))
            for suffix, end in zip(("least", "largest"), ends, strict=True)
        ]
