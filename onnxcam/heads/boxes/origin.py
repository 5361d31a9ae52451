"""How the graph computes numbers that may be boxes: by the last weights alone, or decoded after them."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

import numpy as np
import onnx_graphsurgeon as gs

from onnxcam.graph.constants import constant_values
from onnxcam.graph.operators import only_reshapes, traits_of
from onnxcam.graph.reachability import depends_on, producer
from onnxcam.heads.axis_slice import AxisSlice, operands, varying, writer
from onnxcam.heads.detection_columns import BOX

WEIGHTS = {"Conv", "ConvTranspose", "Gemm", "MatMul", "BatchNormalization"}
MOVES = ("transpose", "slice", "gather", "join")
CORNERS, CENTERS = "corners", "centers"
MAX_REPEATED = 6  # operators on the same tensors that are compared one by one
MAX_STEPS = 64  # operators that are followed back from a tensor


class Origin(NamedTuple):
    """What `BoxColumns` says about its numbers: see there."""

    raw: bool
    activation: str
    layout: str
    outputs: int | None = None  # how many numbers per cell the last weights compute, if it is known


def find_origin(numbers: AxisSlice) -> Origin:
    """How these numbers are computed."""
    sources = {_before_activation(t) for t in operands(writer(numbers, joined=True))}
    activations = {source[0] for source in sources if source is not None}
    if None not in sources and len(activations) == 1:
        outputs = {source[1] for source in sources if source is not None}
        count = outputs.pop() if len(outputs) == 1 else None
        return Origin(True, activations.pop(), "", count)
    parts = operands(writer(numbers, scaled=True, joined=True))
    layout = _layout(parts[0], parts[len(parts) // 2]) if len(parts) in (2, 4) else ""
    return Origin(False, "", layout)


def before_image_size(boxes: gs.Tensor, inputs: Collection[str]) -> gs.Tensor:
    """The boxes before they are scaled to an image of another size than the model's input: by one of the other
    `inputs`, or by two constants, for x and for y.
    """
    for _ in range(MAX_STEPS):
        node = producer(boxes)
        if node is None or node.op not in ("Mul", "Div"):
            break
        scales = [t for t in node.inputs if depends_on(t, inputs) or _is_image_size(t)]
        sources = [t for t in varying(node.inputs) if t not in scales]
        if not scales or not sources:
            break
        boxes = sources[0]
    return boxes


def _is_image_size(tensor: gs.Tensor) -> bool:
    values = constant_values(tensor)
    if values is None or values.size != BOX:
        return False
    width, height, *others = values.ravel().tolist()
    return bool(others == [width, height])


def _before_activation(tensor: gs.Tensor) -> tuple[str, int | None] | None:
    """The operator of one input after the last weights, "" if there is none, and how many numbers these
    compute; None for numbers that are combined with others after them.
    """
    activation, current = "", tensor
    for _ in range(MAX_STEPS):
        node = producer(current)
        if node is None:
            return None
        if node.op in WEIGHTS:
            return activation, _outputs(node)
        traits = traits_of(node)
        is_moved = only_reshapes(traits) or traits.moves in MOVES or traits.quantizes
        if not (is_moved or _scales(node) or _adds_bias(node)):
            if traits.elementwise != "unary" or activation:
                return None
            activation = node.op
        current = next(iter(varying(node.inputs)), node.inputs[0])
    return None


def _outputs(node: gs.Node) -> int | None:
    """The number of channels or features that a node with weights writes."""
    axis, shape = (1 if node.op == "Conv" else -1), node.outputs[0].shape
    size = shape[axis] if shape and len(shape) > 1 else None
    return size if isinstance(size, int) else None


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


def _layout(first: gs.Tensor, second: gs.Tensor) -> str:
    """The layout of boxes whose halves are these: corners are c - s and c + t, or a and a + s; centers are
    (a + b) / 2 and b - a, or x + c and a size to which nothing is added. "" for anything else.
    """
    nodes = _last_sum(first), _last_sum(second)
    if nodes[0] is None or nodes[1] is None:
        return CENTERS if nodes[0] is not None else ""
    shared = [
        a
        for a in (*nodes[0].inputs, *nodes[0].outputs)
        if any(_are_equal(a, b) for b in nodes[1].inputs)
    ]
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
