"""How the graph computes numbers that may be boxes: by the last weights alone, or decoded after them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import onnx_graphsurgeon as gs

from onnxcam.graph.constants import constant_values
from onnxcam.graph.operators import only_reshapes, traits_of
from onnxcam.graph.reachability import producer
from onnxcam.heads.detection_columns import axis_in_source

WEIGHTS = {"Conv", "ConvTranspose", "Gemm", "MatMul", "BatchNormalization"}
MOVES = ("transpose", "slice", "gather", "join")
SCALES = {"Mul", "Div", "Clip", "Min", "Max", "Cast", "Identity"}
CORNERS, CENTERS = "corners", "centers"
MAX_REPEATED = 6  # operators on the same tensors that are compared one by one
MAX_STEPS = 64  # operators that are followed back from a tensor


class Origin(NamedTuple):
    """What `BoxColumns` says about its numbers: see there."""

    raw: bool
    activation: str
    layout: str


class Slice(NamedTuple):
    """Numbers `start` to `stop` along an axis of a tensor."""

    tensor: gs.Tensor
    axis: int
    start: int
    stop: int


def find_origin(numbers: Slice) -> Origin:
    """How these numbers are computed."""
    operands = _operands(_writer(numbers, scaled=False))
    activations = {_activation_after_weights(tensor) for tensor in operands}
    activation = activations.pop()
    if activation is not None and not activations:
        return Origin(True, activation, "")
    parts = _operands(_writer(numbers, scaled=True))
    layout = _layout(parts[0], parts[len(parts) // 2]) if len(parts) in (2, 4) else ""
    return Origin(False, "", layout)


def _writer(numbers: Slice, *, scaled: bool) -> Slice:
    """The tensor that these numbers are written to by a Concat, or by another operator than those that move
    numbers and, if `scaled`, scale or clip them.
    """
    for _ in range(MAX_STEPS):
        source = _step(numbers, scaled=scaled)
        if source is None:
            break
        numbers = source
    return numbers


def _step(numbers: Slice, *, scaled: bool) -> Slice | None:
    """The same numbers before the node that moved or scaled them; None if it computes or joins them."""
    tensor, axis, start, stop = numbers
    node = producer(tensor)
    if node is None:
        return None
    traits, source = traits_of(node), node.inputs[0]
    if node.op == "Concat":
        if int(node.attrs["axis"]) % len(tensor.shape) != axis:
            return numbers._replace(tensor=source)
        return next((part for part in _parts(numbers, node) if part is not None), None)
    if traits.moves == "transpose":
        perm = node.attrs.get("perm", range(len(tensor.shape))[::-1])
        return numbers._replace(tensor=source, axis=int(perm[axis]))
    if only_reshapes(traits) and node.op not in SCALES:
        source_axis = axis_in_source(source, tensor, axis)
        return None if source_axis is None else Slice(source, source_axis, start, stop)
    if node.op in SCALES and (scaled or node.op in ("Cast", "Identity")):
        same = [t for t in varying(node.inputs) if t.shape and len(t.shape) == len(tensor.shape)]
        sized = [t for t in same if t.shape[axis] == tensor.shape[axis]]
        return numbers._replace(tensor=sized[0]) if sized else None
    return None


def _parts(numbers: Slice, node: gs.Node) -> list[Slice | None]:
    """The operand of a Concat that holds all of these numbers; None for the others."""
    return [
        Slice(tensor, numbers.axis, numbers.start - start, numbers.stop - start)
        if start <= numbers.start and numbers.stop <= start + size
        else None
        for tensor, start, size in _joined(node, numbers.axis)
    ]


def _joined(node: gs.Node, axis: int) -> list[tuple[gs.Tensor, int, int]]:
    """The operands of a Concat along the axis, with their first number and size; empty if a size is unknown."""
    parts, start = [], 0
    for tensor in node.inputs:
        size = tensor.shape[axis] if tensor.shape else None
        if not isinstance(size, int):
            return []
        parts.append((tensor, start, size))
        start += size
    return parts


def _operands(numbers: Slice) -> list[gs.Tensor]:
    """The operands of the Concat that wrote these numbers; the tensor itself without one."""
    node = producer(numbers.tensor)
    if node is None or node.op != "Concat":
        return [numbers.tensor]
    return [
        tensor
        for tensor, start, size in _joined(node, numbers.axis)
        if start < numbers.stop and start + size > numbers.start
    ] or [numbers.tensor]


def _activation_after_weights(tensor: gs.Tensor) -> str | None:
    """The operator of one input after the last weights, "" if there is none; None for numbers that are
    combined with others after them.
    """
    activation, current = "", tensor
    for _ in range(MAX_STEPS):
        node = producer(current)
        if node is None:
            return None
        if node.op in WEIGHTS:
            return activation
        traits = traits_of(node)
        is_moved = only_reshapes(traits) or traits.moves in MOVES or traits.quantizes
        if not (is_moved or _scales(node) or _adds_bias(node)):
            if traits.elementwise != "unary" or activation:
                return None
            activation = node.op
        current = next(iter(varying(node.inputs)), node.inputs[0])
    return None


def _scales(node: gs.Node) -> bool:
    """Whether all numbers are multiplied by the same constant."""
    factors = [constant_values(tensor) for tensor in node.inputs]
    return node.op in ("Mul", "Div") and any(
        factor is not None and factor.size == 1 for factor in factors
    )


def _adds_bias(node: gs.Node) -> bool:
    """Whether a constant is added to a product of matrices."""
    sources = [producer(tensor) for tensor in varying(node.inputs)]
    return node.op == "Add" and [source.op for source in sources if source] == ["MatMul"]


def varying(tensors: Sequence[gs.Tensor]) -> list[gs.Tensor]:
    """The tensors that are not constant."""
    return [t for t in tensors if constant_values(t) is None and not t.is_empty()]


def _layout(first: gs.Tensor, second: gs.Tensor) -> str:
    """The layout of boxes whose halves are these: corners are c - s and c + t; centers are (a + b) / 2 and
    b - a, or x + c and a size to which nothing is added. "" for anything else.
    """
    nodes = _last_sum(first), _last_sum(second)
    if nodes[0] is None or nodes[1] is None:
        return CENTERS if nodes[0] is not None else ""
    shared = [a for a in nodes[0].inputs if any(_are_equal(a, b) for b in nodes[1].inputs)]
    operators = nodes[0].op, nodes[1].op
    if operators == ("Sub", "Add") and shared:
        return CORNERS
    return CENTERS if operators == ("Add", "Sub") and len(shared) == 2 else ""


def _last_sum(tensor: gs.Tensor) -> gs.Node | None:
    """The last node that adds or subtracts two tensors; None if only numbers are."""
    current = tensor
    for _ in range(MAX_STEPS):
        node = producer(current)
        if node is None or node.op in WEIGHTS:
            return None
        sources = varying(node.inputs)
        if node.op in ("Add", "Sub") and all(map(_is_array, node.inputs)):
            return node
        if not sources:
            return None
        current = sources[0]
    return None


def _is_array(tensor: gs.Tensor) -> bool:
    values = constant_values(tensor)
    return values is None or values.size > 1


def _are_equal(first: gs.Tensor, second: gs.Tensor, depth: int = MAX_REPEATED) -> bool:
    """Whether two tensors hold the same numbers: one tensor, or the same operators on the same tensors."""
    if first is second:
        return True
    x, y = constant_values(first), constant_values(second)
    if x is not None or y is not None:
        return x is not None and y is not None and np.array_equal(x, y)
    m, n = producer(first), producer(second)
    if m is None or n is None or not depth or len(m.inputs) != len(n.inputs):
        return False
    is_same_output = m.outputs.index(first) == n.outputs.index(second)
    return (
        (m.op, str(m.attrs)) == (n.op, str(n.attrs))
        and is_same_output
        and all(_are_equal(a, b, depth - 1) for a, b in zip(m.inputs, n.inputs, strict=True))
    )
