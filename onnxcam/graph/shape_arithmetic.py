"""Shape arithmetic with sizes that are known by name only.

Exporters compute the target of a Reshape from Shape, Gather, Slice and Concat, that of an Expand with
Equal and Where besides, and sizes that are halved from Cast, Div and Ceil. Which entries are numbers is known
even where the batch is not; NumPy's object arrays compute with both.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from onnxcam.graph.attributes import argument

# Entries are numbers, names of dimensions (which stand for integers), bools, or None if unknown.
Sizes: TypeAlias = NDArray[np.object_]
Entry: TypeAlias = float | str | None
LONGEST = 64  # entries: shapes are short
LARGEST = 1 << 62  # a number that is computed with
DTYPES = (np.int64, np.int32, np.bool_, np.float32, np.float64, np.float16)
WHOLE = (onnx.TensorProto.INT64, onnx.TensorProto.INT32, np.int64, np.int32)


def size_arithmetic(node: gs.Node, known: dict[str, Sizes], opset: int) -> Sizes | None:
    """The output of a node of shape arithmetic, None if it is not one or an operand is not known."""
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
    if any(_operand(tensor, known) is None for tensor in needed):
        return None
    try:
        sizes = rule(node, [_operand(tensor, known) for tensor in node.inputs], opset)
    except (TypeError, ValueError, IndexError, ArithmeticError):
        return None  # a name where a number is needed
    return sizes if sizes.size <= LONGEST else None


def _operand(tensor: gs.Tensor, known: dict[str, Sizes]) -> Sizes | None:
    if not isinstance(tensor, gs.Constant):
        return known.get(tensor.name)
    if math.prod(tensor.shape) > LONGEST or tensor.dtype not in DTYPES:
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
    return None if shape is None else np.array(_product(shape), dtype=object)


def _product(entries: Any) -> Entry:
    product: Entry = 1
    for entry in entries:
        product = _times(product, entry)
    return product


def _gather(node: gs.Node, operands: list[Any], opset: int) -> Sizes:
    del opset
    picked = operands[0][np.asarray(operands[1], dtype=np.int64)]
    return np.array(picked, dtype=object) if not node.attrs.get("axis", 0) else _refuse()


def _slice(node: gs.Node, operands: list[Any], opset: int) -> Sizes:
    del operands[1:]
    starts, ends, steps = (argument(node, each, opset) for each in ("starts", "ends", "steps"))
    step = 1 if steps is None else int(steps[0])
    found: Sizes = operands[0][int(starts[0]) : int(ends[0]) : step]
    return found


def _reshape(node: gs.Node, operands: list[Any], opset: int) -> Sizes:
    del node, opset
    found: Sizes = operands[0].reshape([int(each) for each in operands[1]])
    return found


def _cast(node: gs.Node, operands: list[Any], opset: int) -> Sizes:
    """To integers or to floating point; a size keeps its name."""
    del opset
    to = node.attrs["to"]
    if to in WHOLE:
        return _map(lambda number: math.trunc(number), operands[0])
    dtype = onnx.helper.tensor_dtype_to_np_dtype(to) if isinstance(to, int) else np.dtype(to)
    if dtype not in DTYPES or dtype.kind != "f":
        return _refuse()
    return _map(lambda number: float(dtype.type(number)), operands[0])


def _map(function: Callable[[float], float], sizes: Sizes) -> Sizes:
    """Apply the function to every number; names and unknown entries stay."""
    mapped = [function(entry) if isinstance(entry, (int, float)) else entry for entry in sizes.flat]
    return np.array(mapped, dtype=object).reshape(sizes.shape)


def _rounded(function: Callable[[float], int]) -> Callable[[gs.Node, list[Any], int], Sizes]:
    return lambda node, xs, opset: _map(lambda number: float(function(number)), xs[0])


def _pairs(rule: Callable[[Any, Any], Entry]) -> Callable[[gs.Node, list[Any], int], Sizes]:
    """The rule for every pair of entries, broadcast, in the precision of the operands."""

    def rule_of_node(node: gs.Node, operands: list[Any], opset: int) -> Sizes:
        del opset
        dtypes = [tensor.dtype for tensor in node.inputs if tensor.dtype is not None]
        dtype = np.dtype(dtypes[0]) if dtypes else np.dtype(np.float32)
        pairs = np.broadcast(*(_refused(operand) for operand in operands))
        entries = [rule(*pair) for pair in pairs]
        rounded = [float(dtype.type(e)) if isinstance(e, float) else e for e in entries]
        return np.array(rounded, dtype=object).reshape(pairs.shape)

    return rule_of_node


def _are_numbers(*entries: Entry) -> bool:
    return all(isinstance(entry, (int, float)) for entry in entries)


def _plus(first: Any, second: Any) -> Entry:
    if _are_numbers(first, second):
        return first + second
    return second if first == 0 else first if second == 0 else None


def _minus(first: Any, second: Any) -> Entry:
    return _plus(first, -second) if _are_numbers(second) else None


def _times(first: Any, second: Any) -> Entry:
    """A product with a name in it is a name: the batch of all windows is "64x[N]"."""
    if _are_numbers(first, second):
        return first * second if abs(first * second) < LARGEST else None
    number, name = (first, second) if _are_numbers(first) else (second, first)
    if not _are_numbers(number) or number != int(number) or number < 1 or name is None:
        return None
    factor, base = _factors(name)
    return _product_of(int(number) * factor, base)


def _factors(name: str) -> tuple[int, str]:
    """The number and the name whose product a name is. No name in a model looks like one (see `declared`)."""
    number, bracket, rest = name.partition("x[")
    return (int(number), rest[:-1]) if bracket and number.isdigit() else (1, name)


def _product_of(factor: int, base: str) -> Entry:
    if factor >= LARGEST:
        return None
    return base if factor == 1 else f"{factor}x[{base}]"


def _over(first: Any, second: Any) -> Entry:
    if isinstance(first, int) and isinstance(second, int):
        sign = -1 if (first < 0) != (second < 0) else 1  # integers are rounded towards 0
        return sign * (abs(first) // abs(second))
    if _are_numbers(first, second):
        return first / second
    if not isinstance(first, str) or not _are_numbers(second) or second < 1:
        return None
    factor, base = _factors(first)
    return None if factor % second else _product_of(int(factor // second), base)


def _smaller(first: Any, second: Any) -> Entry:
    return min(first, second) if _are_numbers(first, second) or first == second else None


def _larger(first: Any, second: Any) -> Entry:
    return max(first, second) if _are_numbers(first, second) or first == second else None


def _same(first: Any, second: Any) -> bool:
    """Whether two sizes are equal. ValueError where a name may or may not be that number."""
    if first is None or second is None:
        return bool(_refuse())
    if _are_numbers(first, second) or first == second:
        return bool(first == second)
    numbers = [entry for entry in (first, second) if _are_numbers(entry)]
    return bool(_refuse()) if not numbers or numbers[0] >= 0 else False  # no size is -1


def _reduce_product(node: gs.Node, operands: list[Any], opset: int) -> Sizes:
    axes = argument(node, "axes", opset)
    if operands[0].ndim != 1 or (
        axes is not None and [int(axis) for axis in axes] not in ([0], [-1])
    ):
        return _refuse()
    shape = (1,) if argument(node, "keepdims", opset) else ()
    return np.array(_product(operands[0]), dtype=object).reshape(shape)


def _where(node: gs.Node, operands: list[Any], opset: int) -> Sizes:
    del node, opset
    chosen, first, second = np.broadcast_arrays(*(_refused(each) for each in operands))
    return np.where(np.array(chosen, dtype=bool), first, second)


def _refused(operand: Sizes | None) -> Sizes:
    return _refuse() if operand is None else operand


def _refuse() -> Any:
    raise ValueError


RULES: dict[str, Callable[[gs.Node, list[Any], int], Sizes]] = {
    "Gather": _gather,
    "Slice": _slice,
    "Reshape": _reshape,
    "Concat": lambda node, xs, opset: np.concatenate([np.atleast_1d(each) for each in xs]),
    "Unsqueeze": lambda node, xs, opset: xs[0].reshape(1),
    "Squeeze": lambda node, xs, opset: xs[0].reshape(()),
    "Cast": _cast,
    "Identity": lambda node, xs, opset: xs[0],
    "Equal": _pairs(_same),
    "Where": _where,
    "Add": _pairs(_plus),
    "Sub": _pairs(_minus),
    "Mul": _pairs(_times),
    "Div": _pairs(_over),
    "Min": _pairs(_smaller),
    "Max": _pairs(_larger),
    "Ceil": _rounded(math.ceil),
    "Floor": _rounded(math.floor),
    "Round": _rounded(round),  # halves to even numbers, as ONNX has it
    "ReduceProd": _reduce_product,
}
