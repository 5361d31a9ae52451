"""Quantised tensors as the floats that they stand for.

A quantised model computes y = DequantizeLinear(QuantizeLinear(x)): x on a grid of steps. No derivative
flows through whole numbers, and that of a staircase is zero; what is taken instead is the straight-through
estimator (Bengio, Leonard and Courville 2013, arXiv:1308.3432): dx = dy where x is within the range that the
integers can represent, else 0, as for a Clip to that range.

So each DequantizeLinear of a quantised x is told which x it came from: as an operator of the same name in
a domain of ours, which reads x and its range beside what it read before, and has a rule
(`autodiff/rules/quant.py`). It is a DequantizeLinear again in every file that is written, so that the forward
pass is what it was, bit for bit. Integer operators between the two that only move numbers about
(Reshape, Concat, MaxPool, ...) are computed of the floats, which gives the same floats.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from onnxcam.arrays import Array

Quantised: TypeAlias = Sequence[gs.Tensor]  # integers, their scale, their zero point

DOMAIN = "onnxcam"
RANGES = {
    "uint4": (0, 15),
    "int4": (-8, 7),
    "uint8": (0, 255),
    "int8": (-128, 127),
    "uint16": (0, 65535),
    "int16": (-32768, 32767),
}
CONTRIB = "com.microsoft"
MOVING = {  # what they do to numbers they do to what the numbers stand for, if all have one scale
    *("Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Expand", "Tile"),
    *("Split", "Concat", "Slice", "Gather", "GatherND", "DepthToSpace", "SpaceToDepth", "MaxPool"),
}


def is_operator(node: gs.Node, operator: str) -> bool:
    """Whether a node is QuantizeLinear or its like, of ONNX or of ONNX Runtime's own domain."""
    return node.op == operator and node.domain in (None, "", "ai.onnx", CONTRIB)


def is_quantised(graph: gs.Graph) -> bool:
    """Whether a model computes with quantised numbers anywhere."""
    return any(each.op.endswith("QuantizeLinear") for each in graph.nodes) or any(
        each.op.startswith("QLinear") or each.op in ("ConvInteger", "MatMulInteger", "QGemm")
        for each in graph.nodes
    )


def linked(graph: gs.Graph) -> gs.Graph:
    """Tell every DequantizeLinear which floats its integers came from, in place; returns the graph."""
    for node in graph.nodes:
        if not is_operator(node, "DequantizeLinear") or not (maker := _maker(node.inputs[0])):
            continue
        if not _same_scale(node, maker):
            continue
        x, limits = maker.inputs[0], _limits(node, maker)
        missing = [gs.Variable.empty()] * (3 - len(node.inputs))
        node.inputs.extend([*missing, x, *limits])
        node.attrs["contrib"] = int(node.domain == CONTRIB)
        node.domain = DOMAIN
    return graph


def separated(graph: gs.Graph) -> gs.Graph:
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


def _maker(quantised: gs.Tensor) -> gs.Node | None:
    """The node that rounds floats to these integers."""
    node = quantised.inputs[0] if quantised.inputs else None
    if node is None or not (
        is_operator(node, "QuantizeLinear") or is_operator(node, "DynamicQuantizeLinear")
    ):
        return None
    return node if node.outputs[0] is quantised else None


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
    node = tensor.inputs[0] if tensor.inputs else None
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


# Weights


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


def weight(tensor: gs.Tensor) -> Array | None:
    """The values of a constant, also of a dequantised one; None for what is not constant."""
    if isinstance(tensor, gs.Constant):
        return tensor.values
    node = tensor.inputs[0] if tensor.inputs else None
    if node is None or not is_operator(node, "DequantizeLinear") or node.attrs.get("block_size"):
        return None
    if not all(isinstance(each, gs.Constant) or each.is_empty() for each in node.inputs):
        return None
    whole, scale, *zero = node.inputs
    quantised = (whole, scale, zero[0] if zero else gs.Variable.empty())
    return dequantised(quantised, node.attrs.get("axis", 1))


# Integer operators between the two


@dataclass
class Floats:
    """Quantised tensors as floats, each written once, where it is first asked for."""

    known: dict[tuple[str, str, str], gs.Tensor] = field(default_factory=dict)
    written: list[gs.Node] = field(default_factory=list)

    def of(self, quantised: gs.Tensor, like: gs.Node) -> gs.Tensor:
        """What a DequantizeLinear `like` that gives."""
        key = _key(quantised, like)
        if key not in self.known:
            self._write(quantised, like, key)
        return self.known[key]

    def known_of(self, node: gs.Node) -> gs.Tensor | None:
        """What another DequantizeLinear made of the same; None for the first."""
        key = _key(node.inputs[0], node)
        found = self.known.setdefault(key, node.outputs[0])
        return None if found is node.outputs[0] else found

    def _write(self, quantised: gs.Tensor, like: gs.Node, key: tuple[str, str, str]) -> None:
        node = _mover(quantised)
        if node is None:
            attrs, scale = dict(like.attrs), list(like.inputs)[1:]
            self._emit("DequantizeLinear", like.domain, attrs, [quantised, *scale], [quantised])
            self.known[key] = self.written[-1].outputs[0]
            return
        inputs = [self.of(x, like) if i in _moved(node) else x for i, x in enumerate(node.inputs)]
        self._emit(node.op, node.domain, dict(node.attrs), inputs, node.outputs)
        for own, found in zip(node.outputs, self.written[-1].outputs, strict=True):
            self.known[(own.name, *key[1:])] = found

    def _emit(
        self,
        operator: str,
        domain: str | None,
        attrs: dict[str, object],
        inputs: list[gs.Tensor],
        outputs: list[gs.Tensor],
    ) -> None:
        dtype = np.dtype(np.float32)
        made = [gs.Variable(f"{each.name}/float", dtype, each.shape) for each in outputs]
        node = gs.Node(operator, made[0].name, attrs, inputs, made)
        node.domain = domain
        self.written.append(node)


def _key(quantised: gs.Tensor, like: gs.Node) -> tuple[str, str, str]:
    names = [each.name for each in list(like.inputs)[1:3]]
    return quantised.name, names[0], names[1] if len(names) > 1 else ""


def _moved(node: gs.Node) -> range:
    """The inputs of a moving operator that hold what is moved."""
    return range(len(node.inputs)) if node.op == "Concat" else range(1)


def _mover(quantised: gs.Tensor) -> gs.Node | None:
    """The moving operator that wrote these integers, if all that it moved was rounded from floats."""
    node = quantised.inputs[0] if quantised.inputs else None
    if node is None or node.domain or node.op not in MOVING:
        return None
    if node.op == "MaxPool" and len(node.outputs) > 1:
        return None
    sources = [node.inputs[slot] for slot in _moved(node)]
    return node if all(_maker(each) or _mover(each) for each in sources) else None


def lifted(graph: gs.Graph) -> gs.Graph:
    """Move every DequantizeLinear before the operators that only move its integers, and leave one of those
    that do the same, in place.
    """
    floats, nodes = Floats(), []
    taken: set[str] = set()
    for node in graph.nodes:
        alike = is_operator(node, "DequantizeLinear") and _of_one_scale(node)
        if alike and _mover(node.inputs[0]) is not None:
            found = floats.of(node.inputs[0], node)
            nodes.extend(floats.written)
            floats.written.clear()
            if found.name not in taken and (first := node.outputs[0]):
                taken.add(first.name)
                _take_over(graph, found, first)
                node.inputs.clear()
                continue
            _become_identity(node, found)
        elif alike and _maker(node.inputs[0]) is not None and (again := floats.known_of(node)):
            _become_identity(node, again)
        nodes.append(node)
    graph.nodes = nodes
    return graph


def _become_identity(node: gs.Node, of: gs.Tensor) -> None:
    node.op, node.domain, node.attrs = "Identity", None, {}
    node.inputs.clear()
    node.inputs.append(of)


def _of_one_scale(node: gs.Node) -> bool:
    return all(isinstance(each, gs.Constant) and each.values.size == 1 for each in node.inputs[1:])


def _take_over(graph: gs.Graph, found: gs.Tensor, gone: gs.Tensor) -> None:
    """`found` in place of `gone`, under its name."""
    for consumer in list(gone.outputs):
        for slot, each in enumerate(consumer.inputs):
            if each is gone:
                consumer.inputs[slot] = found
    graph.outputs = [found if each is gone else each for each in graph.outputs]
    gone.inputs.clear()
    found.name, found.dtype, found.shape = gone.name, gone.dtype, gone.shape
