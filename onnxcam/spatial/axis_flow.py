"""What every axis of every tensor holds, followed from the picture through the operators.

An operator that is not known keeps what the axes hold where its output has the shape of its input;
elsewhere nothing is said of its output, and the next residual connection tells.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs

from onnxcam.graph.attributes import argument
from onnxcam.spatial.axes import (
    BATCH,
    CHANNELS,
    COLUMNS,
    MOVED,
    ROWS,
    Axes,
    Axis,
    fitted,
    holds_cells,
    kinds,
    new_axis,
    regrouped,
)
from onnxcam.spatial.axis_slices import (
    as_tokens,
    information_rank,
    resized_axis,
    same_size,
    slice_axis,
    total,
    unfold_axis,
    with_extras,
)

WINDOWS = {
    *("Conv", "ConvTranspose", "MaxPool", "AveragePool", "LpPool", "QLinearConv", "ConvInteger"),
    *("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool", "DepthToSpace", "SpaceToDepth"),
}
SAYS_NOTHING = {"Shape", "Size", "NonZero", "ConstantOfShape", "GridSample", "TopK", "Unique"}


class AxisFlow:
    """The axes of the tensors of a graph, as far as they are known; `image` is (name, layout)."""

    def __init__(self, graph: gs.Graph, image: str, layout: str) -> None:
        self.opset = int(graph.opset)
        tensor = next(each for each in graph.inputs if each.name == image)
        kinds_of = {"N": BATCH, "C": CHANNELS, "H": ROWS, "W": COLUMNS}
        self.axes: dict[str, Axes] = {
            image: tuple(
                new_axis(kinds_of[letter], dim, f"{image}.{letter}")
                for letter, dim in zip(layout, tensor.shape, strict=True)
            )
        }
        for node in graph.nodes:
            if node.op not in SAYS_NOTHING and any(each.name in self.axes for each in node.inputs):
                self._follow(node)

    def axes_of(self, tensor: gs.Tensor) -> Axes | None:
        """What the axes of a tensor hold, None where that is not known."""
        return self.axes.get(tensor.name)

    def _follow(self, node: gs.Node) -> None:
        rule = RULES.get(node.op, AxisFlow._alike)
        for number, out in enumerate(node.outputs):
            if out.shape is None:
                continue
            found = rule(self, node, number)
            if found is None and not any(map(holds_cells, self._given(node))):
                found = tuple(
                    new_axis(CHANNELS, dim, f"{out.name}.{i}") for i, dim in enumerate(out.shape)
                )
            if found is not None and len(found) == len(out.shape):
                self.axes[out.name] = fitted(found, tuple(out.shape))

    def _given(self, node: gs.Node) -> Axes:
        """All axes of all inputs that are known: where no cells go in, none come out."""
        return tuple(axis for each in node.inputs for axis in self.axes_of(each) or ())

    def _argument(self, node: gs.Node, name: str) -> Any:
        return argument(node, name, self.opset)

    # One method a kind of operator: (node, number of the output) -> Axes | None

    def _alike(self, node: gs.Node, number: int) -> Axes | None:
        """Axis by axis what the inputs hold there, aligned at the right as broadcasting does."""
        shape = tuple(node.outputs[number].shape)
        rank = len(shape)
        known = [
            (self.axes_of(each), each.shape)
            for each in node.inputs
            if self.axes_of(each) is not None
        ]
        if not any(len(axes or ()) == rank for axes, _ in known):
            return None
        found = []
        for i, dim in enumerate(shape):
            held = [
                (axes[i - rank], sizes[i - rank])
                for axes, sizes in known
                if axes is not None and len(axes) >= rank - i
            ]
            same = [axis for axis, size in held if same_size(size, dim)]
            origin = f"{node.outputs[number].name}.{i}"
            found.append(
                max(same, key=information_rank) if same else resized_axis(held[0][0], dim, origin)
            )
        return tuple(found)

    def _window(self, node: gs.Node, number: int) -> Axes | None:
        out, given = node.outputs[number], self.axes_of(node.inputs[0])
        if len(out.shape) != 4:
            return self._alike(node, number)
        if given is not None and any(len(kinds(given[i]) - {CHANNELS}) > 1 for i in (2, 3)):
            return None  # a window that slides over tokens, or over pairs of them
        letters = (BATCH, CHANNELS, ROWS, COLUMNS)
        made = [new_axis(k, d, f"{out.name}.{k}") for k, d in zip(letters, out.shape, strict=True)]
        if given is not None:
            made[0] = given[0]
            for i, kind in ((2, ROWS), (3, COLUMNS)):
                if node.inputs[0].shape[i] == out.shape[i] and kinds(given[i]) == {kind}:
                    made[i] = given[i]
        return tuple(made)

    def _transposed(self, node: gs.Node, _: int) -> Axes | None:
        given = self.axes_of(node.inputs[0])
        if given is None:
            return None
        perm = node.attrs.get("perm") or list(range(len(given)))[::-1]
        return tuple(given[i] for i in perm)

    def _reshaped(self, node: gs.Node, number: int) -> Axes | None:
        given = self.axes_of(node.inputs[0])
        return None if given is None else regrouped(given, tuple(node.outputs[number].shape))

    def _product(self, node: gs.Node, number: int) -> Axes | None:
        """MatMul: all but the last axis of the first factor, the last axis of the second."""
        out = node.outputs[number]
        first, second = (self.axes_of(each) for each in node.inputs[:2])
        rank = len(out.shape)
        ranks = [len(each.shape or ()) for each in node.inputs[:2]]
        if min(ranks) < 2:
            return None
        batch = [
            max(
                (each[i - rank] for each in (first, second) if each and len(each) >= rank - i),
                key=information_rank,
                default=(),
            )
            for i in range(rank - 2)
        ]
        rows = first[-2] if first else new_axis(CHANNELS, out.shape[-2], f"{out.name}.rows")
        columns = second[-1] if second else new_axis(CHANNELS, out.shape[-1], out.name)
        return (*batch, rows, columns)

    def _gemm(self, node: gs.Node, number: int) -> Axes | None:
        given, out = self.axes_of(node.inputs[0]), node.outputs[number]
        if given is None or node.attrs.get("transA"):
            return None
        return given[0], new_axis(CHANNELS, out.shape[1], out.name)

    def _einsum(self, node: gs.Node, number: int) -> Axes | None:
        terms = einsum_labels(node)
        if terms is None:
            return None
        operands, result = terms
        out, found = node.outputs[number], []
        for i, label in enumerate(result):
            held = [
                axes[labels.index(label)]
                for labels, axes in zip(operands, map(self.axes_of, node.inputs), strict=True)
                if axes is not None and label in labels
            ]
            made = new_axis(CHANNELS, out.shape[i], f"{out.name}.{i}")
            found.append(max(held, key=information_rank) if held else made)
        return tuple(found)

    def _reduced(self, node: gs.Node, _: int) -> Axes | None:
        given = self.axes_of(node.inputs[0])
        axes = self.reduced_axes(node)
        if given is None or axes is None:
            return None
        if self._argument(node, "keepdims"):
            return tuple(() if i in axes else axis for i, axis in enumerate(given))
        return tuple(axis for i, axis in enumerate(given) if i not in axes)

    def reduced_axes(self, node: gs.Node) -> set[int] | None:
        """The axes that a reduction reduces, counted from the left."""
        given, axes = self.axes_of(node.inputs[0]), self._argument(node, "axes")
        if isinstance(axes, gs.Variable) or given is None:
            return None
        if axes is None or not np.size(axes):
            return set(range(len(given)))
        return {int(each) % len(given) for each in np.ravel(axes)}

    def _concatenated(self, node: gs.Node, number: int) -> Axes | None:
        out, given = node.outputs[number], [self.axes_of(each) for each in node.inputs]
        rank = len(out.shape)
        axis = int(node.attrs["axis"]) % rank
        whole = [each for each in given if each is not None and len(each) == rank]
        if not whole:
            return None
        found = [max((each[i] for each in whole), key=information_rank) for i in range(rank)]
        found[axis] = _appended(node, axis, given)
        return tuple(found)

    def _sliced(self, node: gs.Node, number: int) -> Axes | None:
        given, out = self.axes_of(node.inputs[0]), node.outputs[number]
        starts, ends, axes, steps = (
            self._argument(node, each) for each in ("starts", "ends", "axes", "steps")
        )
        if given is None:
            return None
        if any(isinstance(each, gs.Variable) for each in (starts, ends, axes, steps)):
            return self._alike(node, number)
        axes = range(len(starts)) if axes is None else axes
        steps = [1] * len(starts) if steps is None else steps
        found = list(given)
        for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
            size = node.inputs[0].shape[axis]
            if isinstance(size, int):
                part = range(size)[slice(int(start), int(end), int(step))]
                found[axis] = slice_axis(given[axis], size, part, f"{out.name}.{axis}")
            else:
                found[axis] = resized_axis(given[axis], out.shape[axis], f"{out.name}.{axis}")
        return tuple(found)

    def _divided(self, node: gs.Node, number: int) -> Axes | None:
        given, rank = self.axes_of(node.inputs[0]), len(node.inputs[0].shape or ())
        if given is None:
            return None
        axis = int(node.attrs.get("axis", 0)) % rank
        sizes, size = [each.shape[axis] for each in node.outputs], node.inputs[0].shape[axis]
        if not all(isinstance(each, int) for each in (*sizes, size)):
            return self._alike(node, number)
        start = sum(sizes[:number])
        part = slice_axis(
            given[axis], size, range(start, start + sizes[number]), node.outputs[number].name
        )
        return (*given[:axis], part, *given[axis + 1 :])

    def _gathered(self, node: gs.Node, number: int) -> Axes | None:
        given, out = self.axes_of(node.inputs[0]), node.outputs[number]
        if given is None or not isinstance(node.inputs[1], gs.Constant):
            return None
        axis, index = int(node.attrs.get("axis", 0)) % len(given), node.inputs[1].values
        if not index.ndim:
            return (*given[:axis], *given[axis + 1 :])
        size = node.inputs[0].shape[axis]
        if index.ndim > 2 or not isinstance(size, int):
            return None
        if index.ndim == 2:
            pair = unfold_axis(given[axis], size, index, out.name)
            return None if pair is None else (*given[:axis], *pair, *given[axis + 1 :])
        places = [int(each) % size for each in index]
        return (*given[:axis], slice_axis(given[axis], size, places, out.name), *given[axis + 1 :])


Rule = Callable[[AxisFlow, gs.Node, int], Axes | None]
RULES: dict[str, Rule] = {
    **dict.fromkeys(WINDOWS, AxisFlow._window),
    **dict.fromkeys(("Reshape", "Flatten", "Squeeze", "Unsqueeze"), AxisFlow._reshaped),
    **dict.fromkeys(("MatMul", "FusedMatMul"), AxisFlow._product),
    **dict.fromkeys(
        [f"Reduce{each}" for each in ("Mean", "Sum", "Max", "Min", "Prod", "L1", "L2")]
        + ["ReduceLogSum", "ReduceLogSumExp", "ReduceSumSquare"],
        AxisFlow._reduced,
    ),
    "Transpose": AxisFlow._transposed,
    "Gemm": AxisFlow._gemm,
    "Einsum": AxisFlow._einsum,
    "Concat": AxisFlow._concatenated,
    "Slice": AxisFlow._sliced,
    "Split": AxisFlow._divided,
    "Gather": AxisFlow._gathered,
}


def einsum_labels(node: gs.Node) -> tuple[list[str], str] | None:
    """The labels of an Einsum's operands and of its result; None for what has an ellipsis."""
    equation = str(node.attrs["equation"]).replace(" ", "")
    if "." in equation or "->" not in equation:
        return None
    operands, result = equation.split("->")
    return operands.split(","), result


def _appended(node: gs.Node, axis: int, given: list[Axes | None]) -> Axis:
    """The axis along which a Concat puts its inputs."""
    held = [() if each is None else each[axis] for each in given]
    at = [i for i, each in enumerate(held) if holds_cells(each)]
    origin, dim = f"{node.outputs[0].name}.{axis}", node.outputs[0].shape[axis]
    if not at:
        return new_axis(CHANNELS, dim, origin)
    if len(at) == 1 and (tokens := as_tokens(held[at[0]])) is not None:
        sizes = [each.shape[axis] if each.shape else None for each in node.inputs]
        before = total([tokens.before, *sizes[: at[0]]])
        after = total([tokens.after, *sizes[at[0] + 1 :]])
        return with_extras(tokens.cells, before, after)
    found = set().union(*(kinds(each) for each in held if each))
    return new_axis(
        next(iter(found)) if len(found) == 1 and not _rolled(node) else MOVED, dim, origin
    )


def _rolled(node: gs.Node) -> bool:
    """Whether the inputs are parts of one tensor: put together in another order, they are not where
    they were in the picture.
    """
    parts = [each.inputs[0] for each in node.inputs if each.inputs]
    cut = all(each.op in ("Slice", "Split") for each in parts)
    return cut and len(parts) > 1 and len({each.inputs[0].name for each in parts}) == 1
