"""Which rows of its inputs an operator computes a row of its output from.

A row is a place along one axis of the output. Each row of a Softmax over the last axis is computed of the same
row alone; one of a product of matrices of the same row of the left one and of all of the right one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
import onnx_graphsurgeon as gs

from onnxcam.arrays import Dim
from onnxcam.graph.attributes import argument
from onnxcam.graph.operators import CONTRIB, DOMAIN, is_elementwise, traits_of

Axes: TypeAlias = Sequence[int | None]  # per input the axis of the row; None: it is read whole
Rowwise: TypeAlias = Callable[[gs.Node, int, int], Axes | None]  # None: no row is computed alone


def row_axes(node: gs.Node, axis: int, opset: int) -> Axes | None:
    """Along which axis of each input lie the rows that those along `axis` of the outputs are computed from,
    one from each, as many as they are. None where that is not so, or not known.
    """
    rule, given = _rule_for(node), [each for each in node.inputs if not each.is_empty()]
    if rule is None or node.domain not in (None, "", CONTRIB, DOMAIN):
        return None
    if any(each.shape is None for each in (*given, node.outputs[0])):
        return None
    found = rule(node, axis, opset)
    if found is None:
        return None
    axes = [*found, *[None] * (len(node.inputs) - len(found))]
    size = node.outputs[0].shape[axis]
    pairs = zip(node.inputs, axes, strict=True)
    return axes if all(a is None or each.shape[a] == size for each, a in pairs) else None


def aligned(node: gs.Node, axis: int, opset: int) -> Axes:
    """Operands that are broadcast to each other: those that have the axis are read by row."""
    del opset
    return [_aligned(each, axis, len(node.outputs[0].shape)) for each in node.inputs]


def _aligned(tensor: gs.Tensor, axis: int, rank: int) -> int | None:
    own = -1 if tensor.is_empty() else axis - rank + len(tensor.shape)
    return own if own >= 0 and tensor.shape[own] != 1 else None


def _normalised(node: gs.Node, axis: int, opset: int) -> Axes | None:
    """Softmax and the norms mix the axes from theirs on, or that one alone; none in front of it."""
    given = argument(node, "axis", opset)
    first = int(-1 if given is None else given) % len(node.outputs[0].shape)
    return aligned(node, axis, opset) if axis < first else None


def _reduced(node: gs.Node, axis: int, opset: int) -> Axes | None:
    axes, rank = argument(node, "axes", opset), len(node.inputs[0].shape)
    if axes is None or isinstance(axes, gs.Variable):
        return None
    gone = {int(each) % rank for each in np.ravel(axes)}
    kept = argument(node, "keepdims", opset)
    return [axis if kept else [i for i in range(rank) if i not in gone][axis]]


def _stepped(node: gs.Node, axis: int, opset: int) -> Axes | None:
    """Of one step for all; steps of each channel lie along an axis that is not the last."""
    alike = all(dim == 1 for dim in node.inputs[1].shape)
    return aligned(node, axis, opset) if alike else None


def _product(node: gs.Node, axis: int, opset: int) -> Axes | None:
    left, rank = len(node.inputs[0].shape), len(node.outputs[0].shape)
    if axis == rank - 1 or min(left, len(node.inputs[1].shape)) < 2:
        return None
    return [left - 2] if axis == rank - 2 else aligned(node, axis, opset)


def _gemm(node: gs.Node, axis: int, opset: int) -> Axes | None:
    added = [_aligned(each, axis, 2) for each in node.inputs[2:]]
    left = 1 if argument(node, "transA", opset) else 0
    return [left, None, *added] if axis == 0 else None


def _transposed(node: gs.Node, axis: int, opset: int) -> Axes:
    order = argument(node, "perm", opset) or range(len(node.outputs[0].shape))[::-1]
    return [order[axis]]


def _reshaped(node: gs.Node, axis: int, opset: int) -> Axes | None:
    """The axis of the same size with as many elements before it, or behind it: names that differ may be of one
    size. Squeeze has to say which axes it takes.
    """
    if node.op == "Squeeze" and argument(node, "axes", opset) is None:
        return None
    given, shape = node.inputs[0].shape, node.outputs[0].shape
    around = _elements(shape[:axis]), _elements(shape[axis + 1 :])
    same = (i for i, size in enumerate(given) if size == shape[axis])
    parts = ((i, _elements(given[:i]), _elements(given[i + 1 :])) for i in same)
    found = next((i for i, *part in parts if part[0] == around[0] or part[1] == around[1]), None)
    if found is None or (node.op == "Reshape" and target(given, shape, found, axis) is None):
        return None
    return [found]


def _elements(shape: Sequence[Dim]) -> tuple[int, list[str]]:
    names = sorted(str(each) for each in shape if not isinstance(each, int))
    return math.prod(each for each in shape if isinstance(each, int)), names


def target(
    given: Sequence[Dim], shape: Sequence[Dim], own: int, axis: int, count: int = 1
) -> list[int] | None:
    """What a Reshape of `given` to `shape` is told where of the axis, `own` in what it is given, so many places
    are left; None where other sizes are not known either.
    """
    kept = [i for i, each in enumerate(shape) if i != own and list(given[i : i + 1]) == [each]]
    sizes = [
        each if isinstance(each, int) else 0 if i in kept else -1 for i, each in enumerate(shape)
    ]
    sizes[axis] = count
    return sizes if sizes.count(-1) < 2 else None


def _apart(node: gs.Node, axis: int, opset: int) -> Axes:
    """Concat and Split along another axis: along their own the sizes differ. Some rows of a Concat may come of
    one operand alone, but the score is to be seen to depend on the others, with a gradient of zero.
    """
    del opset
    return [axis] * (len(node.inputs) if node.op == "Concat" else 1)


def _sliced(node: gs.Node, axis: int, opset: int) -> Axes | None:
    axes = sliced_axes(node, opset)
    return None if axes is None or axis in axes else [axis]


def sliced_axes(node: gs.Node, opset: int) -> list[int] | None:
    """The axes along which a Slice cuts, counted from the left; None where they are not known."""
    axes, starts = (argument(node, name, opset) for name in ("axes", "starts"))
    if isinstance(axes, gs.Variable) or (axes is None and isinstance(starts, gs.Variable)):
        return None
    given = range(len(starts)) if axes is None else axes
    return [int(each) % len(node.inputs[0].shape) for each in given]


def _rule_for(node: gs.Node) -> Rowwise | None:
    traits = traits_of(node)
    if is_elementwise(traits) and not traits.unaligned:
        return aligned
    if traits.normalizes:
        return _normalised
    if traits.reduces:
        return _reduced
    return _stepped if traits.quantizes else ROWWISE.get(node.op)


ROWWISE: dict[str, Rowwise] = {  # operators with a rule of their own
    **dict.fromkeys(("Reshape", "Squeeze", "Unsqueeze"), _reshaped),
    **dict.fromkeys(("Concat", "Split"), _apart),
    "Gemm": _gemm,
    "MatMul": _product,
    "Slice": _sliced,
    "Transpose": _transposed,
}
