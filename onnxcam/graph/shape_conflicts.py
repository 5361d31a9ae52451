"""Operands whose shapes contradict each other. ONNX Runtime opens some of these models but cannot run them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import onnx_graphsurgeon as gs

from onnxcam.arrays import Shape

DOMAINS = {"", "ai.onnx", "com.microsoft", "onnxcam"}


def describe_conflicts(node: gs.Node) -> Iterator[str]:
    """What does not fit in a node, as the ends of sentences that begin with its name. Unknown sizes are not
    compared.
    """
    shapes = [None if tensor.shape is None else tuple(tensor.shape) for tensor in node.inputs]
    if (node.domain or "") not in DOMAINS or not shapes or shapes[0] is None:
        return
    if node.op in BLOCK_AXES:
        yield from _block_conflicts(node, shapes[0])
    elif node.op in CONFLICTS and len(shapes) > 1 and shapes[1] is not None:
        yield from CONFLICTS[node.op](node, shapes[0], shapes[1])


def _block_conflicts(node: gs.Node, x: Shape) -> Iterator[str]:
    block_size = node.attrs.get("blocksize", 1)
    power, axes = BLOCK_AXES[node.op]
    divisor = max(block_size, 1) ** power
    for axis in axes:
        if axis < len(x) and isinstance(size := x[axis], int) and size % divisor:
            yield f"cannot divide the {size} of axis {axis} by {divisor} (blocksize {block_size})"


def _matmul_conflicts(node: gs.Node, a: Shape, b: Shape) -> Iterator[str]:
    del node
    if not a or not b:
        yield f"multiplies {a} by {b}, expected at least 1 axis each"
    elif _differ(a[-1], b[max(len(b) - 2, 0)]):
        yield f"multiplies matrices that do not fit: {a} by {b}"


def _gemm_conflicts(node: gs.Node, a: Shape, b: Shape) -> Iterator[str]:
    if (len(a), len(b)) != (2, 2):
        yield f"multiplies {a} by {b}, expected 2 axes each"
        return
    (rows, inner), (depth, columns) = (
        shape[::-1] if node.attrs.get(name) else shape
        for shape, name in ((a, "transA"), (b, "transB"))
    )
    if _differ(inner, depth):
        yield f"multiplies matrices that do not fit: {(rows, inner)} by {(depth, columns)}"
    bias = node.inputs[2].shape if len(node.inputs) > 2 else None
    ends = zip(reversed(bias or ()), (columns, rows), strict=False)
    if len(bias or ()) > 2 or any(dim != 1 and _differ(dim, size) for dim, size in ends):
        yield f"adds {tuple(bias or ())} to a product of shape {(rows, columns)}"


def _conv_conflicts(node: gs.Node, x: Shape, weight: Shape) -> Iterator[str]:
    if len(x) != len(weight) or len(x) < len("NCX"):
        yield f"convolves {x} with weights {weight}, expected the same number of axes, at least 3"
        return
    group, is_transposed = node.attrs.get("group", 1), node.op == "ConvTranspose"
    channels = weight[0] if is_transposed else weight[1]
    if isinstance(channels, int) and _differ(x[1], channels if is_transposed else channels * group):
        yield f"convolves {x} with weights {weight} in {group} groups: the channels do not fit"
    bias = node.inputs[2].shape if len(node.inputs) > 2 else None
    count = weight[1] * group if is_transposed and isinstance(weight[1], int) else weight[0]
    if bias is not None and (len(bias) != 1 or _differ(bias[0], count)):
        yield f"adds a bias {tuple(bias)} to {count} channels"


def _normalization_conflicts(node: gs.Node, x: Shape, scale: Shape) -> Iterator[str]:
    del scale  # it is one of several
    for tensor in node.inputs[1:]:
        shape = tensor.shape
        if shape is not None and (len(shape) != 1 or len(x) < 2 or _differ(shape[0], x[1])):
            yield f"has {tuple(shape)} numbers in {tensor.name!r} for the channels of {x}"


def _quantization_conflicts(node: gs.Node, x: Shape, scale: Shape) -> Iterator[str]:
    if node.attrs.get("block_size") or not all(isinstance(size, int) for size in scale):
        return
    axis = node.attrs.get("axis", 1)
    count = math.prod(size for size in scale if isinstance(size, int))
    if count == 1:
        return
    if len(scale) != 1 or not -len(x) <= axis < len(x) or _differ(x[axis], count):
        yield f"has {scale} scales along axis {axis} of {x}"


def _differ(first: object, second: object) -> bool:
    return isinstance(first, int) and isinstance(second, int) and first != second


# operator -> the power of the block's size that must divide the sizes of these axes
BLOCK_AXES = {"DepthToSpace": (2, (1,)), "SpaceToDepth": (1, (2, 3))}
CONFLICTS: dict[str, Callable[[gs.Node, Shape, Shape], Iterator[str]]] = {
    "MatMul": _matmul_conflicts,
    "Gemm": _gemm_conflicts,
    "Conv": _conv_conflicts,
    "ConvTranspose": _conv_conflicts,
    "BatchNormalization": _normalization_conflicts,
    "InstanceNormalization": _normalization_conflicts,
    "QuantizeLinear": _quantization_conflicts,
    "DequantizeLinear": _quantization_conflicts,
}
