"""Which rows of its inputs an operator needs for one row of its outputs.

A row is the slice of a tensor at one index of an axis. An operator is row-wise along an axis of its outputs if
row i of the outputs depends on row i of some inputs, each along an axis of its own, and on other inputs in any
way. Softmax over the last axis is row-wise along every other axis. MatMul is row-wise along the second-last
axis: row i of the product needs row i of the left matrix and all of the right one.
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

# Per input the axis of its rows; None: all of it is needed
RowAxes: TypeAlias = Sequence[int | None]
# From a node, an axis of its outputs and the opset; None: not row-wise along that axis
RowRule: TypeAlias = Callable[[gs.Node, int, int], RowAxes | None]


def row_axes(node: gs.Node, axis: int, opset: int) -> RowAxes | None:
    """For each input of a node the axis of those rows that the rows along `axis` of the outputs depend on; None
    for an input that is needed completely. None for a node that is not row-wise along `axis`, or may not be.
    """
    rule, inputs = _rule_for(node), [tensor for tensor in node.inputs if not tensor.is_empty()]
    if rule is None or node.domain not in (None, "", CONTRIB, DOMAIN):
        return None
    if any(tensor.shape is None for tensor in (*inputs, node.outputs[0])):
        return None
    axes = rule(node, axis, opset)
    if axes is None:
        return None
    axes = [*axes, *[None] * (len(node.inputs) - len(axes))]
    size = node.outputs[0].shape[axis]
    pairs = zip(node.inputs, axes, strict=True)
    return axes if all(i is None or tensor.shape[i] == size for tensor, i in pairs) else None


def _rule_for(node: gs.Node) -> RowRule | None:
    traits = traits_of(node)
    if is_elementwise(traits) and not traits.unaligned:
        return _elementwise
    if traits.normalizes:
        return _normalization
    if traits.reduces:
        return _reduction
    return _quantization if traits.quantizes else ROWWISE.get(node.op)


def _elementwise(node: gs.Node, axis: int, opset: int) -> RowAxes:
    """Operands that are broadcast to each other."""
    del opset
    rank = len(node.outputs[0].shape)
    return [_broadcast_axis(tensor, axis, rank) for tensor in node.inputs]


def _broadcast_axis(tensor: gs.Tensor, axis: int, rank: int) -> int | None:
    """The axis of an operand that becomes `axis` of `rank` axes; None if the operand is repeated along it."""
    aligned = -1 if tensor.is_empty() else axis - rank + len(tensor.shape)
    return aligned if aligned >= 0 and tensor.shape[aligned] != 1 else None


def _normalization(node: gs.Node, axis: int, opset: int) -> RowAxes | None:
    """Softmax and the norms mix along their attribute `axis`, and some along the axes after it; never along the
    axes before it.
    """
    attribute = argument(node, "axis", opset)
    first = int(-1 if attribute is None else attribute) % len(node.outputs[0].shape)
    return _elementwise(node, axis, opset) if axis < first else None


def _reduction(node: gs.Node, axis: int, opset: int) -> RowAxes | None:
    axes, rank = argument(node, "axes", opset), len(node.inputs[0].shape)
    if axes is None or isinstance(axes, gs.Variable):
        return None
    if argument(node, "keepdims", opset):
        return [axis]
    reduced = {int(i) % rank for i in np.ravel(axes)}
    return [[i for i in range(rank) if i not in reduced][axis]]


def _quantization(node: gs.Node, axis: int, opset: int) -> RowAxes | None:
    """With one scale for the tensor: scales per channel lie along an axis that is not the last one."""
    one_scale = all(dim == 1 for dim in node.inputs[1].shape)
    return _elementwise(node, axis, opset) if one_scale else None


def _matmul(node: gs.Node, axis: int, opset: int) -> RowAxes | None:
    left_rank, rank = len(node.inputs[0].shape), len(node.outputs[0].shape)
    if axis == rank - 1 or min(left_rank, len(node.inputs[1].shape)) < 2:
        return None
    return [left_rank - 2] if axis == rank - 2 else _elementwise(node, axis, opset)


def _gemm(node: gs.Node, axis: int, opset: int) -> RowAxes | None:
    if axis != 0:
        return None
    rows_of_a = 1 if argument(node, "transA", opset) else 0
    return [rows_of_a, None, *(_broadcast_axis(bias, axis, 2) for bias in node.inputs[2:])]


def _transpose(node: gs.Node, axis: int, opset: int) -> RowAxes:
    order = argument(node, "perm", opset) or range(len(node.outputs[0].shape))[::-1]
    return [order[axis]]


def _reshape(node: gs.Node, axis: int, opset: int) -> RowAxes | None:
    """The axis of the same size that has as many elements before it, or as many after it. (Two names of
    dimensions may have the same value.) A Squeeze has to name the axes that it removes.
    """
    if node.op == "Squeeze" and argument(node, "axes", opset) is None:
        return None
    shape, new_shape = node.inputs[0].shape, node.outputs[0].shape
    before, after = _symbolic_size(new_shape[:axis]), _symbolic_size(new_shape[axis + 1 :])
    source = next(
        (
            i
            for i, dim in enumerate(shape)
            if dim == new_shape[axis]
            and (_symbolic_size(shape[:i]) == before or _symbolic_size(shape[i + 1 :]) == after)
        ),
        None,
    )
    if source is None:
        return None
    if node.op == "Reshape" and reshape_target(shape, new_shape, source, axis) is None:
        return None
    return [source]


def _symbolic_size(shape: Sequence[Dim]) -> tuple[int, list[str]]:
    """The number of elements: the product of a number and of named dimensions, in order of their names."""
    names = sorted(str(dim) for dim in shape if not isinstance(dim, int))
    return math.prod(dim for dim in shape if isinstance(dim, int)), names


def reshape_target(
    shape: Sequence[Dim], new_shape: Sequence[Dim], source: int, axis: int, rows: int = 1
) -> list[int] | None:
    """The second input of a Reshape from `shape` to `new_shape` when only some rows remain along the axis
    `source` of its input, which is `axis` of its output. None if more than one other size is not known.
    """
    copied = [i != source and list(shape[i : i + 1]) == [dim] for i, dim in enumerate(new_shape)]
    target = [
        dim if isinstance(dim, int) else 0 if copied[i] else -1 for i, dim in enumerate(new_shape)
    ]
    target[axis] = rows
    return target if target.count(-1) < 2 else None


def _concat_or_split(node: gs.Node, axis: int, opset: int) -> RowAxes | None:
    """Concat and Split along another axis; along their own the sizes differ. Some rows of a Concat depend on
    one operand only, but the others must stay connected to the score, with a gradient of zero.
    """
    del opset
    return [axis] * (len(node.inputs) if node.op == "Concat" else 1)


def _slice(node: gs.Node, axis: int, opset: int) -> RowAxes | None:
    axes = sliced_axes(node, opset)
    return None if axes is None or axis in axes else [axis]


def sliced_axes(node: gs.Node, opset: int) -> list[int] | None:
    """The axes along which a Slice cuts, counted from the first; None if they are not constant."""
    axes, starts = (argument(node, name, opset) for name in ("axes", "starts"))
    if isinstance(axes, gs.Variable) or (axes is None and isinstance(starts, gs.Variable)):
        return None
    axes = range(len(starts)) if axes is None else axes
    return [int(axis) % len(node.inputs[0].shape) for axis in axes]


ROWWISE: dict[str, RowRule] = {  # operators with a rule of their own
    **dict.fromkeys(("Reshape", "Squeeze", "Unsqueeze"), _reshape),
    **dict.fromkeys(("Concat", "Split"), _concat_or_split),
    "Gemm": _gemm,
    "MatMul": _matmul,
    "Slice": _slice,
    "Transpose": _transpose,
}
