"""What the axes of an output hold, one rule per kind of operator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import onnx_graphsurgeon as gs

from onnxcam.arrays import Dim, Shape
from onnxcam.graph.attributes import argument
from onnxcam.graph.operators import traits_of
from onnxcam.graph.reachability import producer
from onnxcam.spatial.axes import (
    BATCH,
    CHANNELS,
    COLUMNS,
    MOVED,
    ROWS,
    Axes,
    Axis,
    holds_cells,
    kinds,
    new_axis,
    regroup,
)
from onnxcam.spatial.axis_slices import (
    as_tokens,
    information_rank,
    may_be_equal,
    resized_axis,
    slice_axis,
    sum_sizes,
    unfold_axis,
    with_extra_tokens,
)


@dataclass(frozen=True)
class Operation:
    """A node, what the axes of its inputs hold (None: not known), and the opset."""

    node: gs.Node
    sources: tuple[Axes | None, ...]
    opset: int

    def argument(self, name: str) -> Any:
        """An attribute, or an input that holds numbers."""
        return argument(self.node, name, self.opset)

    def input_shape(self) -> Shape:
        """The shape of the first input."""
        return tuple(self.node.inputs[0].shape or ())


# Each rule returns the axes of the output with an index, None if they are not known
Rule: TypeAlias = Callable[[Operation, int], Axes | None]


def align(operation: Operation, index: int) -> Axes | None:
    """What the inputs hold along each axis, aligned at the last axis as in broadcasting."""
    output = operation.node.outputs[index]
    rank = len(output.shape)
    inputs = [
        (axes, tensor.shape)
        for axes, tensor in zip(operation.sources, operation.node.inputs, strict=True)
        if axes is not None
    ]
    if not any(len(axes) == rank for axes, _ in inputs):
        return None
    aligned = []
    for i, dim in enumerate(output.shape):
        pairs = [
            (axes[i - rank], shape[i - rank]) for axes, shape in inputs if len(axes) >= rank - i
        ]
        axis = _most_informative([axis for axis, size in pairs if may_be_equal(size, dim)])
        if axis is None:
            axis = resized_axis(pairs[0][0], dim, f"{output.name}.{i}")
        aligned.append(axis)
    return tuple(aligned)


def slide_window(operation: Operation, index: int) -> Axes | None:
    """A new grid; an axis whose size does not change stays."""
    output, source = operation.node.outputs[index], operation.sources[0]
    if len(output.shape) != 4:
        return align(operation, index)
    if source is not None and any(len(kinds(source[i]) - {CHANNELS}) > 1 for i in (2, 3)):
        return None  # a window that slides along tokens, or pairs of them
    axes = [
        new_axis(kind, dim, f"{output.name}.{kind}")
        for kind, dim in zip((BATCH, CHANNELS, ROWS, COLUMNS), output.shape, strict=True)
    ]
    if source is not None:
        axes[0] = source[0]
        for i, kind in ((2, ROWS), (3, COLUMNS)):
            if operation.input_shape()[i] == output.shape[i] and kinds(source[i]) == {kind}:
                axes[i] = source[i]
    return tuple(axes)


def transpose(operation: Operation, _: int) -> Axes | None:
    """The axes in another order."""
    source = operation.sources[0]
    if source is None:
        return None
    perm = operation.node.attrs.get("perm") or list(range(len(source)))[::-1]
    return tuple(source[i] for i in perm)


def reshape(operation: Operation, index: int) -> Axes | None:
    """The same factors in other axes."""
    source = operation.sources[0]
    return None if source is None else regroup(source, tuple(operation.node.outputs[index].shape))


def matmul(operation: Operation, index: int) -> Axes | None:
    """All but the last axis of the first input, and the last axis of the second."""
    output, operands = operation.node.outputs[index], operation.node.inputs[:2]
    if min(len(tensor.shape or ()) for tensor in operands) < 2:
        return None
    first, second = operation.sources[:2]
    rank = len(output.shape)
    batch = [
        _most_informative(
            [axes[i - rank] for axes in (first, second) if axes and len(axes) >= rank - i]
        )
        or ()
        for i in range(rank - 2)
    ]
    rows = first[-2] if first else new_axis(CHANNELS, output.shape[-2], f"{output.name}.rows")
    columns = second[-1] if second else new_axis(CHANNELS, output.shape[-1], output.name)
    return (*batch, rows, columns)


def gemm(operation: Operation, index: int) -> Axes | None:
    """The rows of the first input, with new features."""
    source, output = operation.sources[0], operation.node.outputs[index]
    if source is None or operation.node.attrs.get("transA"):
        return None
    return source[0], new_axis(CHANNELS, output.shape[1], output.name)


def einsum(operation: Operation, index: int) -> Axes | None:
    """For each label of the result, the axis of an operand with this label."""
    terms = einsum_labels(operation.node)
    if terms is None:
        return None
    operands, result = terms
    output, axes = operation.node.outputs[index], list[Axis]()
    for i, label in enumerate(result):
        labeled_axes = [
            source[labels.index(label)]
            for labels, source in zip(operands, operation.sources, strict=True)
            if source is not None and label in labels
        ]
        axis = _most_informative(labeled_axes)
        new_features = new_axis(CHANNELS, output.shape[i], f"{output.name}.{i}")
        axes.append(new_features if axis is None else axis)
    return tuple(axes)


def reduce(operation: Operation, _: int) -> Axes | None:
    """The axes that are not reduced."""
    source = operation.sources[0]
    reduced = None if source is None else reduced_axes(operation.node, operation.opset)
    if source is None or reduced is None:
        return None
    if operation.argument("keepdims"):
        return tuple(() if i in reduced else axis for i, axis in enumerate(source))
    return tuple(axis for i, axis in enumerate(source) if i not in reduced)


def concat(operation: Operation, index: int) -> Axes | None:
    """What the inputs hold; along the axis of the Concat, cells among other tokens."""
    rank = len(operation.node.outputs[index].shape)
    joined_axis = int(operation.node.attrs["axis"]) % rank
    source_axes = [axes for axes in operation.sources if axes is not None and len(axes) == rank]
    if not source_axes:
        return None
    axes = [max((source[i] for source in source_axes), key=information_rank) for i in range(rank)]
    axes[joined_axis] = _concat_axis(operation, joined_axis)
    return tuple(axes)


def slice_axes(operation: Operation, index: int) -> Axes | None:
    """Some positions of some axes."""
    source, output = operation.sources[0], operation.node.outputs[index]
    if source is None:
        return None
    starts, ends, axes, steps = map(operation.argument, ("starts", "ends", "axes", "steps"))
    if any(isinstance(numbers, gs.Variable) for numbers in (starts, ends, axes, steps)):
        return align(operation, index)
    axes = range(len(starts)) if axes is None else axes
    steps = [1] * len(starts) if steps is None else steps
    sliced_axes = list(source)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        size, origin = operation.input_shape()[axis], f"{output.name}.{axis}"
        if isinstance(size, int):
            positions = range(size)[slice(int(start), int(end), int(step))]
            sliced_axes[axis] = slice_axis(source[axis], size, positions, origin)
        else:
            sliced_axes[axis] = resized_axis(source[axis], output.shape[axis], origin)
    return tuple(sliced_axes)


def split(operation: Operation, index: int) -> Axes | None:
    """A range of positions of one axis."""
    source, outputs = operation.sources[0], operation.node.outputs
    if source is None:
        return None
    axis = int(operation.node.attrs.get("axis", 0)) % len(source)
    sizes, size = [tensor.shape[axis] for tensor in outputs], operation.input_shape()[axis]
    if not isinstance(size, int) or not all(isinstance(dim, int) for dim in sizes):
        return align(operation, index)
    start = sum(sizes[:index])
    positions = range(start, start + sizes[index])
    selected = slice_axis(source[axis], size, positions, outputs[index].name)
    return _replace_axis(source, axis, selected)


def gather(operation: Operation, index: int) -> Axes | None:
    """Positions of one axis by a constant: one (the axis is removed), a list, or a table of windows."""
    source, indices = operation.sources[0], operation.node.inputs[1]
    if source is None or not isinstance(indices, gs.Constant):
        return None
    name, positions = operation.node.outputs[index].name, indices.values
    axis = int(operation.node.attrs.get("axis", 0)) % len(source)
    if not positions.ndim:
        return _replace_axis(source, axis)
    size = operation.input_shape()[axis]
    if positions.ndim > 2 or not isinstance(size, int):
        return None
    if positions.ndim == 2:
        pair = unfold_axis(source[axis], size, positions, name)
        return None if pair is None else _replace_axis(source, axis, *pair)
    from_start = [int(position) % size for position in positions]
    return _replace_axis(source, axis, slice_axis(source[axis], size, from_start, name))


RULES: dict[str, Rule] = {  # of single operators
    "Transpose": transpose,
    "MatMul": matmul,
    "FusedMatMul": matmul,
    "Gemm": gemm,
    "Einsum": einsum,
    "Concat": concat,
    "Slice": slice_axes,
    "Split": split,
    "Gather": gather,
}


def rule_for(node: gs.Node) -> Rule:
    """The rule of a node's operator."""
    traits = traits_of(node)
    if traits.window or traits.moves == "blocks":
        return slide_window
    if traits.moves == "view":
        return reshape
    return reduce if traits.reduces else RULES.get(node.op, align)


def reduced_axes(node: gs.Node, opset: int) -> set[int] | None:
    """The axes that a reduction reduces, counted from the first; None if they are not known."""
    rank, axes = len(node.inputs[0].shape), argument(node, "axes", opset)
    if isinstance(axes, gs.Variable):
        return None
    if axes is None or not np.size(axes):
        return set(range(rank))
    return {int(axis) % rank for axis in np.ravel(axes)}


def einsum_labels(node: gs.Node) -> tuple[list[str], str] | None:
    """The labels of an Einsum's operands and of its result; None for an equation with an ellipsis."""
    equation = str(node.attrs["equation"]).replace(" ", "")
    if "." in equation or "->" not in equation:
        return None
    operands, result = equation.split("->")
    return operands.split(","), result


def _most_informative(axes: Sequence[Axis]) -> Axis | None:
    return max(axes, key=information_rank, default=None)


def _replace_axis(axes: Axes, index: int, *replacements: Axis) -> Axes:
    return (*axes[:index], *replacements, *axes[index + 1 :])


def _concat_axis(operation: Operation, joined_axis: int) -> Axis:
    """The axis along which a Concat joins its inputs."""
    output, inputs = operation.node.outputs[0], operation.node.inputs
    joined_axes = [() if axes is None else axes[joined_axis] for axes in operation.sources]
    with_cells = [i for i, axis in enumerate(joined_axes) if holds_cells(axis)]
    origin, dim = f"{output.name}.{joined_axis}", output.shape[joined_axis]
    if not with_cells:
        return new_axis(CHANNELS, dim, origin)
    first = with_cells[0]
    if len(with_cells) == 1 and (tokens := as_tokens(joined_axes[first])) is not None:
        sizes: list[Dim] = [
            tensor.shape[joined_axis] if tensor.shape else None for tensor in inputs
        ]
        before = sum_sizes([tokens.before, *sizes[:first]])
        after = sum_sizes([tokens.after, *sizes[first + 1 :]])
        return with_extra_tokens(tokens.cells, before, after)
    joined_kinds = set[str]().union(*map(kinds, joined_axes))
    in_order = len(joined_kinds) == 1 and not _joins_parts_of_one_tensor(inputs)
    return new_axis(next(iter(joined_kinds)) if in_order else MOVED, dim, origin)


def _joins_parts_of_one_tensor(inputs: Sequence[gs.Tensor]) -> bool:
    """Whether the inputs were cut from the same tensor: joined in another order, as when the rows of a shifted
    window are rolled, cells are no longer at their position in the image.
    """
    nodes = [node for tensor in inputs if (node := producer(tensor)) is not None]
    are_slices = all(traits_of(node).moves == "slice" for node in nodes)
    return are_slices and len(nodes) > 1 and len({node.inputs[0].name for node in nodes}) == 1
