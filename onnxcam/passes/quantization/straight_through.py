"""Quantised tensors as the floats that they stand for.

A quantised model computes y = DequantizeLinear(QuantizeLinear(x)): x on a grid of steps. No derivative
flows through whole numbers, and that of a staircase is zero; what is taken instead is the straight-through
estimator (Bengio, Leonard and Courville 2013, arXiv:1308.3432): dx = dy where x is within the range that the
integers can represent, else 0, as for a Clip to that range.

So each DequantizeLinear of a quantised x is told which x it came from: as an operator of the same name in
a domain of ours, which reads x and its range beside what it read before, and has a rule
(`autodiff/rules/quantization.py`). It is a DequantizeLinear again in every file that is written, so the forward
pass is what it was, bit for bit. Integer operators between the two that only move numbers about
(Reshape, Concat, MaxPool, ...) are computed of the floats, which gives the same floats.
"""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from onnxcam.arrays import Array
from onnxcam.graph.constants import CONTRIB, DOMAIN, is_operator, quantizer_of
from onnxcam.graph.reachability import producer

RANGES = {
    "uint4": (0, 15),
    "int4": (-8, 7),
    "uint8": (0, 255),
    "int8": (-128, 127),
    "uint16": (0, 65535),
    "int16": (-32768, 32767),
}


def is_quantised(graph: gs.Graph) -> bool:
    """Whether a model computes with quantised numbers anywhere."""
    return any(each.op.endswith("QuantizeLinear") for each in graph.nodes) or any(
        each.op.startswith("QLinear") or each.op in ("ConvInteger", "MatMulInteger", "QGemm")
        for each in graph.nodes
    )


def attach_float_sources(graph: gs.Graph) -> gs.Graph:
    """Tell every DequantizeLinear which floats its integers came from, in place; returns the graph."""
    for node in graph.nodes:
        if not is_operator(node, "DequantizeLinear") or not (maker := quantizer_of(node.inputs[0])):
            continue
        if not _same_scale(node, maker):
            continue
        x, limits = maker.inputs[0], _limits(node, maker)
        missing = [gs.Variable.empty()] * (3 - len(node.inputs))
        node.inputs.extend([*missing, x, *limits])
        node.attrs["contrib"] = int(node.domain == CONTRIB)
        node.domain = DOMAIN
    return graph


def detach_float_sources(graph: gs.Graph) -> gs.Graph:
    """The graph with every such operator as the DequantizeLinear that it is: a copy if there is any."""
    if not any(each.domain == DOMAIN for each in graph.nodes):
        return graph
    copied = graph.copy()
    for node in copied.nodes:
        if node.domain == DOMAIN:
            node.domain = CONTRIB if node.attrs.pop("contrib") else None
            kept = [each for each in list(node.inputs)[:3] if not each.is_empty()]
            node.inputs.clear()
            node.inputs.extend(kept)
    return copied


def _same_scale(node: gs.Node, maker: gs.Node) -> bool:
    if maker.op == "DynamicQuantizeLinear":
        return [each.name for each in node.inputs[1:3]] == [each.name for each in maker.outputs[1:]]
    if node.attrs.get("block_size") or maker.attrs.get("block_size"):
        return False
    pairs = zip(*(_scale_and_zero(each) for each in (node, maker)), strict=True)
    axes = {each.attrs.get("axis", 1) for each in (node, maker)}
    alike = all(
        a is not None and b is not None and a.shape == b.shape and np.array_equal(a, b)
        for a, b in pairs
    )
    return alike and (len(axes) == 1 or _scale_and_zero(node)[0].size == 1)  # type: ignore[union-attr]


def _scale_and_zero(node: gs.Node) -> tuple[Array | None, NDArray[np.int64] | None]:
    """The constants of a QuantizeLinear or DequantizeLinear; None for one that is not constant."""
    scale = node.inputs[1]
    zero = node.inputs[2] if len(node.inputs) > 2 else gs.Variable.empty()
    values = scale.values if isinstance(scale, gs.Constant) else None
    if zero.is_empty():
        return values, None if values is None else np.zeros(values.shape, np.int64)
    return values, zero.values.astype(np.int64) if isinstance(zero, gs.Constant) else None


BOUNDED = {"Sigmoid": (0.0, 1.0), "Softmax": (0.0, 1.0), "HardSigmoid": (0.0, 1.0)}
KEEPING = {  # none of what they write is beyond what they read
    *("GlobalAveragePool", "GlobalMaxPool", "MaxPool", "AveragePool", "ReduceMean", "ReduceMax"),
    *("Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Slice", "Split"),
}


def _span(tensor: gs.Tensor) -> tuple[float, float]:
    """Between which numbers all values are known to lie."""
    node = producer(tensor)
    if node is None or (node.domain and node.domain != DOMAIN):
        return -np.inf, np.inf
    if node.domain == DOMAIN:
        ends = _ends(node)
        return (-np.inf, np.inf) if ends is None else (ends[0].min(), ends[1].max())
    if node.op in KEEPING:
        low, high = _span(node.inputs[0])
        return min(low, 0.0), max(high, 0.0)  # pads are zeros
    if node.op == "Clip" and all(isinstance(each, gs.Constant) for each in node.inputs[1:]):
        bounds = [float(np.ravel(each.values)[0]) for each in node.inputs[1:]]
        return (bounds[0], bounds[1]) if len(bounds) > 1 else (-np.inf, np.inf)
    return BOUNDED.get(node.op, (-np.inf, np.inf))


def _ends(node: gs.Node) -> list[NDArray[np.float64]] | None:
    """The least and the largest number that a DequantizeLinear can write; None if they are not known."""
    bounds = RANGES.get(str(np.dtype(node.inputs[0].dtype)))
    scale, zero = _scale_and_zero(node)
    if bounds is None or scale is None or zero is None:
        return None
    return [np.asarray((bound - zero) * scale.astype(np.float64)) for bound in bounds]


def _limits(node: gs.Node, maker: gs.Node) -> list[gs.Tensor]:
    """The least and the largest number that is represented; none of a range that is made to fit, or that
    nothing can be beyond by half a step: a mask that is known tells that the gradient is constant.
    """
    x, name, ends = maker.inputs[0], node.outputs[0].name, _ends(node)
    if ends is None or (ends[0].size > 1 and x.shape is None):
        return []
    low, high = _span(x)
    step = np.asarray(node.inputs[1].values, np.float64)
    if np.all(ends[0] - step / 2 <= low) and np.all(high <= ends[1] + step / 2):
        return []
    shape = [1] * (len(x.shape) if step.size > 1 else 0)
    if step.size > 1:
        shape[maker.attrs.get("axis", 1)] = step.size
    with np.errstate(over="ignore"):  # an end beyond the type is infinite: nothing reaches it
        return [
            gs.Constant(f"{name}/{word}", np.asarray(end, x.dtype).reshape(shape))
            for word, end in zip(("least", "largest"), ends, strict=True)
        ]
