"""Shape arithmetic with sizes that are known by name only.

Exporters compute the target of a Reshape from Shape, Gather, Slice and Concat, that of an Expand with
Equal and Where besides. Which entries are numbers is known even where the batch is not; NumPy's object
arrays compute with both.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from onnxcam.graph.attrs import argument
from onnxcam.graph.shapes import Dim, Shape

Sizes: TypeAlias = NDArray[np.object_]  # entries are ints, or names of dimensions; or bools
LONGEST = 64  # entries: shapes are short
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
    operands = [_operand(each, known) for each in node.inputs]
    if any(each is None for each in operands[: 1 if node.op != "Concat" else None]):
        return None
    if all(isinstance(each, gs.Constant) for each in node.inputs):
        return None  # plain folding does it exactly
    try:
        return rule(node, operands, opset)
    except (TypeError, ValueError, IndexError, ZeroDivisionError):
        return None  # a name where a number is needed


def _operand(tensor: gs.Tensor, known: dict[str, Sizes]) -> Sizes | None:
    if not isinstance(tensor, gs.Constant):
        return known.get(tensor.name)
    if np.prod(tensor.shape) > LONGEST or tensor.dtype not in (np.int64, np.int32, np.bool_):
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
    if shape is None or not all(isinstance(dim, int) for dim in shape):
        return None
    return np.array(math.prod(shape), dtype=object)


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


def _each(rule: Callable[[Any, Any], Any], first: Sizes | None, second: Sizes | None) -> Sizes:
    """The rule for every pair of entries, broadcast."""
    pairs = np.broadcast(_refused(first), _refused(second))
    return np.array([rule(*pair) for pair in pairs], dtype=object).reshape(pairs.shape)


def _times(first: Dim, second: Dim) -> Dim:
    """A product with a name in it is a name: the batch of all windows is "64x[N]"."""
    if isinstance(first, int) and isinstance(second, int):
        return first * second
    number, name = (first, second) if isinstance(first, int) else (second, first)
    if not isinstance(number, int) or number < 1:
        return _refuse()
    return name if number == 1 else f"{number}x[{name}]"


def _over(first: Dim, second: Dim) -> Dim:
    if isinstance(first, int) and isinstance(second, int):
        return first // second
    product = re.fullmatch(rf"{second}x\[(.*)\]", str(first))
    if second == 1 or product is None:
        return first if second == 1 else _refuse()
    return product[1]


def _same(first: Dim, second: Dim) -> bool:
    """Whether two sizes are equal. ValueError where a name may or may not be that number."""
    if type(first) is type(second) and (isinstance(first, int) or first == second):
        return first == second
    known = [each for each in (first, second) if isinstance(each, int)]
    return _refuse() if not known or known[0] >= 0 else False  # no size is -1


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
    "Cast": lambda node, xs, opset: xs[0] if node.attrs["to"] in WHOLE else _refuse(),
    "Identity": lambda node, xs, opset: xs[0],
    "Equal": lambda node, xs, opset: _each(_same, xs[0], xs[1]),
    "Where": _where,
    "Add": lambda node, xs, opset: _numbers(xs[0]) + _numbers(xs[1]),
    "Sub": lambda node, xs, opset: _numbers(xs[0]) - _numbers(xs[1]),
    "Mul": lambda node, xs, opset: _each(_times, xs[0], xs[1]),
    "Div": lambda node, xs, opset: _each(_over, xs[0], xs[1]),
}


def _numbers(operand: Sizes | None) -> Any:
    if operand is None or not all(isinstance(each, int) for each in operand.flat):
        return _refuse()
    return np.array(operand.tolist(), dtype=object)


def expanded(given: Shape, wanted: Sizes) -> Shape:
    """The shape that an Expand leaves of `given`: both broadcast to each other, aligned at the right. A size
    that cannot be told of two names is None.
    """
    rank = max(len(given), len(wanted))
    pairs = zip(
        (1,) * (rank - len(given)) + tuple(given),
        (1,) * (rank - len(wanted)) + tuple(wanted.tolist()),
        strict=True,
    )
    return tuple(_broadcast(first, second) for first, second in pairs)


def _broadcast(first: Dim, second: Dim) -> Dim:
    if first == 1 or second == 1:
        return second if first == 1 else first
    known = [each for each in (first, second) if isinstance(each, int)]  # more than 1
    return first if first == second else known[0] if known else None
