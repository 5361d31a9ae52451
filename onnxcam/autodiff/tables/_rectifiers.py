"""Which nodes are rectifiers, in every form in which exporters write them.

A rectifier grows like x for large x, and is flat or nearly so for very negative x. Where an exporter writes one
as several nodes, the map must not depend on that: of x gate(x), as SiLU, GELU, Mish and HardSwish are written,
the product is the rectifier and its gate is none; of ReLU6 as Min(Max(x, 0), 6) both nodes are. A line that is
clipped, which is a hard sigmoid, is none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs

from onnxcam.graph.attributes import argument
from onnxcam.graph.constants import constant_values
from onnxcam.graph.operators import DOMAIN, is_elementwise, traits_of
from onnxcam.graph.reachability import producer
from onnxcam.graph.tracing import Value

MOST_NODES = 16  # of a gate
ALMOST_ZERO = 1e-3  # of a gate, whose constants may be rounded
UNBOUNDED = (None, None)
RANGES: dict[str, tuple[float | None, float | None]] = {
    "Sigmoid": (0.0, 1.0),
    "HardSigmoid": (0.0, 1.0),
    "Tanh": (-1.0, 1.0),
    "Erf": (-1.0, 1.0),
}


def relu(g: Value) -> Value:
    """The cotangent without its negative part."""
    return g.build.op("Relu", g)


def is_rectifier(y: Value) -> bool:
    """Whether the node that writes y is a rectifier."""
    node = producer(y.tensor)
    return node is not None and node.op in RECTIFIERS and RECTIFIERS[node.op](node, y.build.opset)


# Clipped lines


def _starts_at_zero(node: gs.Node, opset: int) -> bool:
    """Clip(x, 0, b): ReLU6."""
    low = argument(node, "min", opset)
    number = constant_values(low) if isinstance(low, gs.Variable) else low
    return number is not None and not np.any(number) and not _is_shifted(node.inputs[0])


def _is_maximum_with_zero(node: gs.Node, opset: int) -> bool:
    """Max(x, 0), but not of a line that is clipped at the other end, too."""
    xs = [tensor for tensor in node.inputs if _number(tensor) != 0]
    return len(node.inputs) == 2 and len(xs) == 1 and not _is_clipped_line(node, xs[0])


def _is_minimum_at_rectifier(node: gs.Node, opset: int) -> bool:
    """Min(x, 6) right after or before one of the two."""
    xs = [tensor for tensor in node.inputs if _number(tensor) is None]
    neighbors = [*node.outputs[0].outputs, *(before for x in xs if (before := producer(x)))]
    return len(node.inputs) == 2 and any(
        neighbor.op in ("Relu", "Max") and RECTIFIERS[neighbor.op](neighbor, opset)
        for neighbor in neighbors
    )


def _is_unclipped(node: gs.Node, opset: int) -> bool:
    """Relu(x), but not of a line that is clipped at the other end, too."""
    return not _is_clipped_line(node, node.inputs[0])


def _is_clipped_line(node: gs.Node, x: gs.Tensor) -> bool:
    """Whether max(x, 0) is a part of min(max(x + 3, 0), 6)."""
    before = producer(x)
    if before is not None and before.op == "Min":
        return any(_is_shifted(tensor) for tensor in before.inputs)
    return _is_shifted(x) and any(reader.op == "Min" for reader in node.outputs[0].outputs)


def _is_shifted(x: gs.Tensor) -> bool:
    """Whether a number was added, as in HardSwish: x clip(x + 3, 0, 6) / 6."""
    node = producer(x)
    return node is not None and node.op == "Add" and any(map(_number, node.inputs))


def _number(tensor: gs.Tensor) -> float | None:
    """The only number of a constant."""
    values = constant_values(tensor)
    return float(values.item()) if values is not None and values.size == 1 else None


# Products with a gate


@dataclass(frozen=True)
class Gate:
    """The input of x gate(x) that is the gate, and where the gate tends for large x."""

    slot: int
    limit: float


def gate_of(node: gs.Node) -> Gate | None:
    """The gate of a product x gate(x), where the gate is a sigmoid, hard sigmoid, tanh or erf of a function of
    x alone, scaled and shifted so that it tends to 0 for very negative x. None if the node is no such product.
    """
    if node.op != "Mul":
        return None
    for slot in (0, 1):
        limit = _limit(node.inputs[slot], _without_scale(node.inputs[1 - slot]))
        if limit is not None:
            return Gate(slot, limit)
    return None


def _without_scale(tensor: gs.Tensor) -> set[int]:
    """The ids of a tensor and of what it is a positive multiple of."""
    ids = {id(_unrounded(tensor))}
    while (line := _line(tensor)) is not None and line[1] > 0 and line[2] == 0:
        tensor = line[0]
        ids.add(id(_unrounded(tensor)))
    return ids


def _unrounded(tensor: gs.Tensor) -> gs.Tensor:
    """A tensor before it was quantized or cast."""
    while (node := producer(tensor)) is not None:
        if node.op == "DequantizeLinear" and node.domain == DOMAIN:
            tensor = node.inputs[3]
        elif node.op in ("Cast", "Identity"):
            tensor = node.inputs[0]
        else:
            break
    return tensor


def _limit(gate: gs.Tensor, xs: set[int]) -> float | None:
    """Where a gate tends for large x, if it is one."""
    slope, offset = 1.0, 0.0
    while (line := _line(gate)) is not None:
        gate, offset, slope = line[0], slope * line[2] + offset, slope * line[1]
    node = producer(_unrounded(gate))
    if node is None or slope <= 0 or not _is_function_of(node, xs):
        return None
    low, high = _range(node)
    falls_to_zero = low is not None and abs(slope * low + offset) < ALMOST_ZERO
    return slope * high + offset if falls_to_zero and high is not None else None


def _range(node: gs.Node) -> tuple[float | None, float | None]:
    """Where a bounded function of x tends for very negative and for large x."""
    if node.op == "Clip":
        if len(node.inputs) == 3:
            return _number(node.inputs[1]), _number(node.inputs[2])
        return node.attrs.get("min"), node.attrs.get("max")
    befores = [before for tensor in node.inputs if (before := producer(tensor))]
    if node.op == "Min":  # of Relu(x) or Max(x, 0)
        return 0.0, next((number for tensor in node.inputs if (number := _number(tensor))), None)
    if node.op == "Max" and len(befores) == 1:  # of Min(x, 6) and 0
        return _range(befores[0])
    if any(before.op == "Softplus" for before in befores):
        return 0.0, RANGES.get(node.op, UNBOUNDED)[1]
    return RANGES.get(node.op, UNBOUNDED)


def _line(tensor: gs.Tensor) -> tuple[gs.Tensor, float, float] | None:
    """x, a and b of a tensor that is written as a x + b."""
    node = producer(_unrounded(tensor))
    if node is None or node.op not in ("Add", "Sub", "Mul", "Div") or len(node.inputs) != 2:
        return None
    (x, first), (_, second) = ((operand, _number(operand)) for operand in node.inputs)
    if second is None and node.op in ("Add", "Mul"):
        x, second = node.inputs[1], first
    if second is None:
        return None
    slopes = {"Mul": second, "Div": 1 / second if second else np.inf}
    offsets = {"Add": second, "Sub": -second}
    return x, slopes.get(node.op, 1.0), offsets.get(node.op, 0.0)


def _is_function_of(node: gs.Node, xs: set[int]) -> bool:
    """Whether a node computes each number from the number of x at its position, and from constants."""
    pending, reads_x = [node], False
    for _ in range(MOST_NODES):
        if not pending:
            return reads_x
        node = pending.pop()
        if not is_elementwise(traits_of(node)):
            return False
        for tensor in node.inputs:
            if id(_unrounded(tensor)) in xs:
                reads_x = True
            elif not tensor.is_empty() and constant_values(tensor) is None:
                if (before := producer(_unrounded(tensor))) is None:
                    return False
                pending.append(before)
    return False


def _has_gate(node: gs.Node, opset: int) -> bool:
    return gate_of(node) is not None


def _is_outside_gate(node: gs.Node, opset: int) -> bool:
    """Softplus, but not in x tanh(softplus(x)), which is Mish."""
    return all(reader.op != "Tanh" for reader in node.outputs[0].outputs)


def _always(node: gs.Node, opset: int) -> bool:
    return True


RECTIFIERS: dict[str, Callable[[gs.Node, int], bool]] = {
    "Relu": _is_unclipped,
    "Clip": _starts_at_zero,
    "Max": _is_maximum_with_zero,
    "Min": _is_minimum_at_rectifier,
    "Mul": _has_gate,
    "Softplus": _is_outside_gate,
    **dict.fromkeys(("LeakyRelu", "PRelu", "ThresholdedRelu", "Elu", "Selu", "Celu"), _always),
    **dict.fromkeys(("HardSwish", "Swish", "Mish", "Gelu"), _always),
}
"""The operators that can be rectifiers, and which of their nodes are, given the node and the opset."""
