"""Operators that compute with quantised numbers, written as what they mean.

QLinearConv and its like are by definition DequantizeLinear -> the operator on floats -> QuantizeLinear, and are
replaced by these three. The runtime computes them in integers or fixed point, so that single values may
come out one quantisation step apart; sums of whole numbers (ConvInteger, MatMulInteger) are exact.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import onnx_graphsurgeon as gs

from onnxcam.arrays import Array
from onnxcam.graph.constants import CONTRIB, Quantised
from onnxcam.passes.canonicalize import canonicalize


@dataclass
class Writer:
    """The nodes that stand for one node."""

    node: gs.Node
    nodes: list[gs.Node] = field(default_factory=list)

    @property
    def name(self) -> str:
        """What the node writes."""
        return str(self.node.outputs[0].name)

    def inputs(self, start: int, stop: int) -> list[gs.Tensor]:
        """The inputs from `start` on, empty where they are left out."""
        given = list(self.node.inputs)[start:stop]
        return given + [gs.Variable.empty()] * (stop - start - len(given))

    def op(self, operator: str, *inputs: gs.Tensor, **attributes: Any) -> gs.Tensor:
        """A new node's output."""
        made = gs.Variable(f"{self.name}/{operator}_{len(self.nodes)}", np.dtype(np.float32))
        given = {name: each for name, each in attributes.items() if each is not None}
        self.nodes.append(gs.Node(operator, made.name, given, list(inputs), [made]))
        return made

    def constant(self, word: str, values: Array) -> gs.Constant:
        """A float constant."""
        return gs.Constant(f"{self.name}/{word}", np.asarray(values, np.float32))

    def attributes(self, *names: str) -> dict[str, Any]:
        """The node's own, of these names."""
        return {name: self.node.attrs[name] for name in names if name in self.node.attrs}

    def floats(self, quantised: Quantised, axis: int = 0) -> gs.Tensor:
        """What integers stand for. Weights stay integers: the runtime would quantise float ones between
        quantised tensors by itself, and worse.
        """
        one = not isinstance(quantised[1], gs.Constant) or quantised[1].values.size == 1
        given = [each for each in quantised if not each.is_empty()]
        rank = len(quantised[0].shape or ())
        return self.op("DequantizeLinear", *given, axis=None if one else axis % rank)

    def quantise(self, floats: gs.Tensor, scale: gs.Tensor, zero: gs.Tensor) -> None:
        """Let `floats` in steps be what the node wrote."""
        self.op("QuantizeLinear", floats, *(each for each in (scale, zero) if not each.is_empty()))
        if not zero.is_empty():
            self.node.outputs[0].dtype = zero.dtype
        self.give()

    def give(self) -> None:
        """Let the last node write what the node wrote."""
        written = self.node.outputs[0]
        self.node.inputs.clear()
        self.node.outputs.clear()
        self.nodes[-1].outputs.clear()
        self.nodes[-1].outputs.append(written)


Opening: TypeAlias = Callable[[Writer], None]
DECOMPOSITIONS: dict[tuple[str, str], Opening] = {}


def decomposes(operator: str, domain: str = "") -> Callable[[Opening], Opening]:
    """Enter what an operator is replaced by."""

    def enter(function: Opening) -> Opening:
        DECOMPOSITIONS[domain, operator] = function
        return function

    return enter


PER_SLICE = 13  # the opset from which DequantizeLinear takes a scale for each slice


def opset_to_open(graph: gs.Graph) -> int:
    """The opset that is needed to replace what `opened` replaces: the graph's own or a newer one."""
    scales = [
        node.inputs[scale]
        for node in graph.nodes
        for _, scale, _ in (WEIGHTS.get(node.op, ()))
        if scale < len(node.inputs)
    ]
    sliced = any(isinstance(each, gs.Constant) and each.values.size > 1 for each in scales)
    return max(int(graph.opset), PER_SLICE) if sliced else int(graph.opset)


def decompose_integer_ops(graph: gs.Graph) -> gs.Graph:
    """Replace operators that compute with quantised numbers, in place; returns the graph, cleaned. With the
    shapes that are known then, more of them may be of a form that is replaced.
    """
    while any(map(_opening_of, graph.nodes)):
        nodes: list[gs.Node] = []
        for node in graph.nodes:
            if (function := _opening_of(node)) is None:
                nodes.append(node)
                continue
            writer = Writer(node)
            function(writer)
            nodes.extend(writer.nodes)
        graph.nodes = nodes
        graph = canonicalize(graph)
    return graph


def _opening_of(node: gs.Node) -> Opening | None:
    return DECOMPOSITIONS.get((node.domain or "", node.op)) if _is_known(node) else None


def _is_known(node: gs.Node) -> bool:
    """Whether what is replaced is of the form that is replaced: weights with constant scales, and a known
    rank where the channels are last.
    """
    for slot, scale, zero in WEIGHTS.get(node.op, ()):
        if slot < len(node.inputs) and isinstance(node.inputs[slot], gs.Constant):
            fixed = [node.inputs[each] for each in (scale, zero) if each < len(node.inputs)]
            if not all(isinstance(each, gs.Constant) or each.is_empty() for each in fixed):
                return False
    return not node.attrs.get("channels_last") or node.inputs[0].shape is not None


WEIGHTS = {  # inputs that may be constant, their scale and zero point
    "QLinearConv": ((3, 4, 5), (8, 1, 4)),
    "QLinearMatMul": ((0, 1, 2), (3, 4, 5)),
    "QGemm": ((0, 1, 2), (3, 4, 5), (6, 1, 4)),
    "QLinearAdd": ((0, 1, 2), (3, 4, 5)),
    "QLinearMul": ((0, 1, 2), (3, 4, 5)),
    "ConvInteger": ((1, 3, 3),),
    "MatMulInteger": ((0, 2, 2), (1, 3, 3)),
}
CONV = ("auto_pad", "dilations", "group", "kernel_shape", "pads", "strides")
POOL = ("auto_pad", "ceil_mode", "count_include_pad", "kernel_shape", "pads", "strides")


@decomposes("QLinearConv")
def _convolution(write: Writer) -> None:
    x, w = write.floats(write.inputs(0, 3)), write.floats(write.inputs(3, 6))
    scale, zero, bias = write.inputs(6, 9)
    terms = [] if bias.is_empty() else [write.floats(_bias(write, bias, 1, 4))]
    y = write.op("Conv", x, w, *terms, **write.attributes(*CONV))
    write.quantise(y, scale, zero)


def _bias(
    write: Writer, bias: gs.Tensor, first: int, second: int, factor: float = 1.0
) -> Quantised:
    """A bias of whole numbers, in steps of the product of two scales."""
    scales = [np.ravel(write.node.inputs[each].values) for each in (first, second)]
    steps = write.constant("bias_scale", np.float32(factor) * scales[0] * scales[1])
    return bias, steps, gs.Variable.empty()


@decomposes("QLinearMatMul")
@decomposes("QLinearMatMul", CONTRIB)
def _product(write: Writer) -> None:
    a, b = write.floats(write.inputs(0, 3)), write.floats(write.inputs(3, 6), axis=-1)
    write.quantise(write.op("MatMul", a, b), *write.inputs(6, 8))


@decomposes("QGemm", CONTRIB)
def _gemm(write: Writer) -> None:
    attributes = write.attributes("alpha", "transA", "transB")
    rows = 0 if attributes.get("transB") else 1
    a, b = write.floats(write.inputs(0, 3)), write.floats(write.inputs(3, 6), axis=rows)
    bias, scale, zero = write.inputs(6, 9)
    factor = float(attributes.get("alpha", 1.0))
    terms = [] if bias.is_empty() else [write.floats(_bias(write, bias, 1, 4, factor), axis=-1)]
    y = write.op("Gemm", a, b, *terms, **attributes)
    if scale.is_empty():
        write.give()
    else:
        write.quantise(y, scale, zero)


def _of_two(operator: str) -> Opening:
    def function(write: Writer) -> None:
        a, b = write.floats(write.inputs(0, 3)), write.floats(write.inputs(3, 6))
        write.quantise(write.op(operator, a, b), *write.inputs(6, 8))

    return function


decomposes("QLinearAdd", CONTRIB)(_of_two("Add"))
decomposes("QLinearMul", CONTRIB)(_of_two("Mul"))


def _of_one(operator: str, *names: str) -> Opening:
    def function(write: Writer) -> None:
        x = write.floats(write.inputs(0, 3))
        last = bool(write.node.attrs.get("channels_last"))
        rank = len(write.node.inputs[0].shape) if last else 0
        if last:
            x = write.op("Transpose", x, perm=[0, rank - 1, *range(1, rank - 1)])
        y = write.op(operator, x, **write.attributes(*names))
        if last:
            y = write.op("Transpose", y, perm=[0, *range(2, rank), 1])
        write.quantise(y, *write.inputs(3, 5))

    return function


decomposes("QLinearSigmoid", CONTRIB)(_of_one("Sigmoid"))
decomposes("QLinearLeakyRelu", CONTRIB)(_of_one("LeakyRelu", "alpha"))
decomposes("QLinearAveragePool", CONTRIB)(_of_one("AveragePool", *POOL))
decomposes("QLinearGlobalAveragePool", CONTRIB)(_of_one("GlobalAveragePool"))


@decomposes("QLinearWhere", CONTRIB)
def _choice(write: Writer) -> None:
    x, y = write.floats(write.inputs(1, 4)), write.floats(write.inputs(4, 7))
    write.quantise(write.op("Where", write.node.inputs[0], x, y), *write.inputs(7, 9))


@decomposes("QLinearSoftmax", CONTRIB)
def _softmax(write: Writer) -> None:
    """Its attribute `opset` says whether it means the Softmax of before 13, which flattens what follows
    the axis: the same where that is the last.
    """
    axis = int(write.node.attrs.get("axis", -1))
    x = write.floats(write.inputs(0, 3))
    write.quantise(write.op("Softmax", x, axis=axis), *write.inputs(3, 5))


@decomposes("QLinearConcat", CONTRIB)
def _concatenation(write: Writer) -> None:
    count = (len(write.node.inputs) - 2) // 3
    parts = [write.floats(write.inputs(2 + 3 * i, 5 + 3 * i)) for i in range(count)]
    y = write.op("Concat", *parts, axis=write.node.attrs["axis"])
    write.quantise(y, *write.inputs(0, 2))


# Sums of whole numbers, of inputs that are quantised as they come


def _counted(write: Writer, whole: gs.Tensor, zero: gs.Tensor, axis: int) -> gs.Tensor:
    """q - zero as floats. Where q is of DynamicQuantizeLinear that is its value in steps."""
    maker = whole.inputs[0] if whole.inputs else None
    if maker is not None and maker.op in ("DynamicQuantizeLinear", "QuantizeLinear"):
        scale = maker.outputs[1] if maker.op == "DynamicQuantizeLinear" else maker.inputs[1]
        return write.op("Div", write.op("DequantizeLinear", whole, scale, zero), scale)
    one = write.constant("one", np.ones((), np.float32))
    return write.floats((whole, one, zero), axis)


@decomposes("ConvInteger")
def _convolution_of_integers(write: Writer) -> None:
    x, w, x_zero, w_zero = write.inputs(0, 4)
    x, w = _counted(write, x, x_zero, 1), _counted(write, w, w_zero, 0)
    _whole(write, write.op("Conv", x, w, **write.attributes(*CONV)))


@decomposes("MatMulInteger")
def _product_of_integers(write: Writer) -> None:
    a, b, a_zero, b_zero = write.inputs(0, 4)
    _whole(
        write, write.op("MatMul", _counted(write, a, a_zero, -2), _counted(write, b, b_zero, -1))
    )


def _whole(write: Writer, sums: gs.Tensor) -> None:
    """The sums in place of the whole numbers: where those are only read as floats, they stay floats."""
    readers = list(write.node.outputs[0].outputs)
    if not all(each.op == "Cast" for each in readers):
        write.op("Cast", sums, to=6)
        write.give()
        return
    write.node.outputs[0].dtype = np.dtype(np.float32)
    write.give()
