"""Shape arithmetic with sizes that are known only by name.

Exporters compute the target of a Reshape from Shape, Gather, Slice and Concat, that of an Expand also
from Equal and Where, and halved sizes from Cast, Div and Ceil. Most sizes are numbers even if the batch is
unknown: NumPy's object arrays hold numbers and names.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from onnxcam.arrays import FLOAT32
from onnxcam.graph import symbolic_sizes
from onnxcam.graph.attributes import argument

Sizes: TypeAlias = NDArray[np.object_]
MAX_SIZES = 64  # sizes in an array: shapes are short
DTYPES = (np.int64, np.int32, np.bool_, np.float32, np.float64, np.float16)
INTEGERS = (onnx.TensorProto.INT64, onnx.TensorProto.INT32, np.int64, np.int32)


def size_arithmetic(node: gs.Node, sizes_of: dict[str, Sizes], opset: int) -> Sizes | None:
    """The output of a node of shape arithmetic, from the arrays of sizes by tensor; None if the operator is
    another one or an operand is unknown.
    """
    if node.op == "Shape":
        return _shape(node, opset)
    if node.op == "Size":
        return _size(node)
    rule = RULES.get(node.op)
    if rule is None or not node.inputs:
        return None
    if all(isinstance(tensor, gs.Constant) for tensor in node.inputs):
        return None  # plain folding does it exactly
    needed = node.inputs if node.op == "Concat" else node.inputs[:1]
    if any(_operand(tensor, sizes_of) is None for tensor in needed):
        return None
    try:
        sizes = rule(node, [_operand(tensor, sizes_of) for tensor in node.inputs], opset)
    except (TypeError, ValueError, IndexError, ArithmeticError):
        return None  # a name where a number is needed
    return sizes if sizes.size <= MAX_SIZES else None


def _operand(tensor: gs.Tensor, sizes_of: dict[str, Sizes]) -> Sizes | None:
    if not isinstance(tensor, gs.Constant):
        return sizes_of.get(tensor.name)
    if math.prod(tensor.shape) > MAX_SIZES or tensor.dtype not in DTYPES:
        return None
    return np.array(tensor.values.tolist(), dtype=object)


def _shape(node: gs.Node, opset: int) -> Sizes | None:
    shape = node.inputs[0].shape
    if shape is None or any(dim is None for dim in shape):
        return None
    start, end = argument(node, "start", opset) or 0, argument(node, "end", opset)
    return np.array(list(shape)[start:end], dtype=object)


def _size(node: gs.Node) -> Sizes | None:
    shape = node.inputs[0].shape
    return None if shape is None else np.array(symbolic_sizes.product(shape), dtype=object)


def _gather(node: gs.Node, operands: list[Any], opset: int) -> Sizes:
    del opset
    picked = operands[0][np.asarray(operands[1], dtype=np.int64)]
    return np.array(picked, dtype=object) if not node.attrs.get("axis", 0) else _refuse()


def _slice(node: gs.Node, operands: list[Any], opset: int) -> Sizes:
    del operands[1:]
    starts, ends, steps = (argument(node, name, opset) for name in ("starts", "ends", "steps"))
    step = 1 if steps is None else int(steps[0])
    sizes: Sizes = operands[0][int(starts[0]) : int(ends[0]) : step]
    return sizes


def _reshape(node: gs.Node, operands: list[Any], opset: int) -> Sizes:
    del node, opset
    sizes: Sizes = operands[0].reshape([int(size) for size in operands[1]])
    return sizes


def _cast(node: gs.Node, operands: list[Any], opset: int) -> Sizes:
    """To integers or to floating point; a size keeps its name."""
    del opset
    to = node.attrs["to"]
    if to in INTEGERS:
        return _map(lambda number: math.trunc(number), operands[0])
    dtype = onnx.helper.tensor_dtype_to_np_dtype(to) if isinstance(to, int) else np.dtype(to)
    if dtype not in DTYPES or dtype.kind != "f":
        return _refuse()
    return _map(lambda number: float(dtype.type(number)), operands[0])


def _map(function: Callable[[float], float], sizes: Sizes) -> Sizes:
    """Apply the function to every number; names and unknown sizes stay."""
    mapped = [function(size) if isinstance(size, (int, float)) else size for size in sizes.flat]
    return np.array(mapped, dtype=object).reshape(sizes.shape)


def _rounding_rule(function: Callable[[float], int]) -> Callable[[gs.Node, list[Any], int], Sizes]:
    return lambda node, xs, opset: _map(lambda number: float(function(number)), xs[0])


def _elementwise_rule(
    rule: Callable[[Any, Any], symbolic_sizes.Size],
) -> Callable[[gs.Node, list[Any], int], Sizes]:
    """The rule for every pair of sizes, broadcast, in the precision of the operands."""

    def rule_of_node(node: gs.Node, operands: list[Any], opset: int) -> Sizes:
        del opset
        dtypes = [tensor.dtype for tensor in node.inputs if tensor.dtype is not None]
        dtype = np.dtype(dtypes[0]) if dtypes else FLOAT32
        pairs = np.broadcast(*(_require_known(operand) for operand in operands))
        sizes = [rule(*pair) for pair in pairs]
        rounded = [float(dtype.type(size)) if isinstance(size, float) else size for size in sizes]
        return np.array(rounded, dtype=object).reshape(pairs.shape)

    return rule_of_node


def _reduce_product(node: gs.Node, operands: list[Any], opset: int) -> Sizes:
    axes = argument(node, "axes", opset)
    if operands[0].ndim != 1 or (
        axes is not None and [int(axis) for axis in axes] not in ([0], [-1])
    ):
        return _refuse()
    shape = (1,) if argument(node, "keepdims", opset) else ()
    return np.array(symbolic_sizes.product(operands[0]), dtype=object).reshape(shape)


def _where(node: gs.Node, operands: list[Any], opset: int) -> Sizes:
    del node, opset
    condition, first, second = np.broadcast_arrays(
        *(_require_known(operand) for operand in operands)
    )
    return np.where(np.array(condition, dtype=bool), first, second)


def _require_known(operand: Sizes | None) -> Sizes:
    return _refuse() if operand is None else operand


def _refuse() -> Any:
    raise ValueError


RULES: dict[str, Callable[[gs.Node, list[Any], int], Sizes]] = {
    "Gather": _gather,
    "Slice": _slice,
    "Reshape": _reshape,
    "Concat": lambda node, xs, opset: np.concatenate([np.atleast_1d(x) for x in xs]),
    "Unsqueeze": lambda node, xs, opset: xs[0].reshape(1),
    "Squeeze": lambda node, xs, opset: xs[0].reshape(()),
    "Cast": _cast,
    "Identity": lambda node, xs, opset: xs[0],
    "Equal": _elementwise_rule(symbolic_sizes.equal),
    "Where": _where,
    "Add": _elementwise_rule(symbolic_sizes.add),
    "Sub": _elementwise_rule(symbolic_sizes.subtract),
    "Mul": _elementwise_rule(symbolic_sizes.multiply),
    "Div": _elementwise_rule(symbolic_sizes.divide),
    "Min": _elementwise_rule(symbolic_sizes.minimum),
    "Max": _elementwise_rule(symbolic_sizes.maximum),
    "Ceil": _rounding_rule(math.ceil),
    "Floor": _rounding_rule(math.floor),
    "Round": _rounding_rule(round),  # halves to even numbers, as ONNX has it
    "ReduceProd": _reduce_product,
}
