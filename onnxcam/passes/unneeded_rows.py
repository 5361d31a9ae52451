"""Rows that no one reads are not computed.

A vision transformer's class token is one row of 197 that is picked out behind the last block: the other rows
of that block's MLP, and of the queries' side of its attention, are computed for nothing, and so are their
gradients, which are zero. Here a Gather or Slice of few rows asks for them only, and an operator that works on
each row alone hands the question on to what it reads. What is asked for some of its rows by all its readers
computes these and no others; where the questions end the rows are picked.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import Any, TypeAlias

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from onnxcam.graph.attributes import argument
from onnxcam.graph.reachability import captured_tensors, is_float
from onnxcam.graph.slicing import slice_axes
from onnxcam.graph.tracing import Builder, Value
from onnxcam.graph.window import LONGEST
from onnxcam.passes.row_dependence import row_axes, sliced_axes, target

FEW = 4  # times as many rows as are asked for there must be
LONG = 16  # rows that an axis of unknown size is taken to have


@dataclass(frozen=True)
class RowSelection:
    """Places along an axis, each once; negative ones, counted from the end, where its size is not known."""

    axis: int
    places: tuple[int, ...]


Needs: TypeAlias = Sequence[RowSelection | None]  # per input; None: all of it


@dataclass
class RowAnalysis:
    """The nodes that are needed, in order. By name: what is left of tensors; and by that of its first output
    what a node reads that writes those, or which places one picks.
    """

    nodes: list[gs.Node] = field(default_factory=list)
    left: dict[str, RowSelection] = field(default_factory=dict)
    needs: dict[str, Needs] = field(default_factory=dict)
    picked: dict[str, NDArray[Any]] = field(default_factory=dict)


def drop_unneeded_rows(graph: gs.Graph, kept: Collection[str]) -> None:
    """Leave out rows that nothing reads of what the operators of a graph compute, which is in order; in place.

    The graph's outputs and the tensors of the names `kept` stay whole. A tensor that loses rows loses its
    name with them. Later rounds find what was read for its shape only, by operators that are gone.
    """
    whole = {*kept, *(each.name for each in graph.outputs)}
    while (found := _found(graph, whole)).left:
        _rewrite(graph, found)


def _found(graph: gs.Graph, whole: Collection[str]) -> RowAnalysis:
    found, wanted = RowAnalysis(), dict[str, RowSelection | None].fromkeys(whole)
    batch = {each.shape[0] for each in graph.inputs if each.shape}
    for node in reversed(graph.nodes):
        written = [each for each in node.outputs if each.name in wanted and not each.is_empty()]
        if not written:
            continue
        found.nodes.append(node)
        rows = reduce(_joined, (wanted[each.name] for each in written))
        needs = rows and _handed_on(node, rows, graph.opset)
        if rows and needs:
            found.left |= {each.name: rows for each in node.outputs if not each.is_empty()}
            found.needs[node.outputs[0].name] = needs
        else:
            needs = _asked(node, batch, found, graph.opset)
        for tensor, need in zip(node.inputs, needs, strict=True):
            both = _joined(wanted.get(tensor.name, need), need)
            wanted[tensor.name] = both if both and _few(both, tensor) else None
        wanted |= dict.fromkeys(each.name for each in captured_tensors(node))
    found.nodes.reverse()
    return found


def _joined(first: RowSelection | None, second: RowSelection | None) -> RowSelection | None:
    """The rows of both; None for all of them."""
    if first == second or first is None or second is None or first.axis != second.axis:
        return first if first == second else None
    return RowSelection(first.axis, tuple(sorted({*first.places, *second.places})))


def _few(rows: RowSelection, tensor: gs.Tensor) -> bool:
    size = tensor.shape[rows.axis]
    return 0 < FEW * len(rows.places) <= (size if isinstance(size, int) else LONG)


def _handed_on(node: gs.Node, rows: RowSelection, opset: int) -> Needs | None:
    axes = row_axes(node, rows.axis, opset)
    if axes is None:
        return None
    return [None if axis is None else RowSelection(axis, rows.places) for axis in axes]


def _asked(node: gs.Node, batch: Collection[Any], found: RowAnalysis, opset: int) -> Needs:
    """What an operator asks for by itself: everything, but for one that picks rows. Pictures are not rows."""
    needs: list[RowSelection | None] = [None] * len(node.inputs)
    picked = _picked(node, opset)
    if picked is not None and is_float(node.inputs[0]):
        axis, places = picked
        size = node.inputs[0].shape[axis]
        if size not in batch and (axis or isinstance(size, int)):
            needs[0] = RowSelection(axis, tuple(dict.fromkeys(places.ravel().tolist())))
            found.picked[node.outputs[0].name] = places
    return needs


def _picked(node: gs.Node, opset: int) -> tuple[int, NDArray[Any]] | None:
    """The axis along which a Gather or Slice picks and the places, where they are known; None for another."""
    if node.op not in PICKING or node.domain or node.inputs[0].shape is None:
        return None
    return PICKING[node.op](node, opset)


def _gathered(node: gs.Node, opset: int) -> tuple[int, NDArray[Any]] | None:
    indices, shape = argument(node, "indices", opset), node.inputs[0].shape
    if not isinstance(indices, np.ndarray):
        return None
    axis = int(argument(node, "axis", opset)) % len(shape)
    known = isinstance(shape[axis], int) and shape[axis] > 0
    return axis, indices % shape[axis] if known else indices


def _cut(node: gs.Node, opset: int) -> tuple[int, NDArray[Any]] | None:
    """Of an axis of unknown size the first place alone is sure to be there."""
    axes = sliced_axes(node, opset)
    numbers = [argument(node, name, opset) for name in ("starts", "ends", "steps")]
    if axes is None or len(axes) != 1 or any(isinstance(each, gs.Variable) for each in numbers):
        return None
    start, end, step = (1 if each is None else int(each[0]) for each in numbers)
    size = node.inputs[0].shape[axes[0]]
    if isinstance(size, int) and size > LONGEST:
        return None
    if isinstance(size, int):
        return axes[0], np.arange(size)[start:end:step]
    return (axes[0], np.zeros(1, np.int64)) if (start, end, step) == (0, 1, 1) else None


PICKING = {"Gather": _gathered, "Slice": _cut}


def _rewrite(graph: gs.Graph, found: RowAnalysis) -> None:
    build, needed = Builder(graph), {id(each) for each in found.nodes}
    for node in graph.nodes:
        if id(node) not in needed:
            node.inputs.clear()
            node.outputs.clear()
    graph.nodes, narrowed = [], []
    for node in found.nodes:
        name = node.outputs[0].name
        if name in found.needs:
            _narrow(build, node, found)
            narrowed += [each for each in node.outputs if not each.is_empty()]
        elif name in found.picked and node.inputs[0].name in found.left:
            _pick_of(build, node, found.picked[name], found.left[node.inputs[0].name])
        graph.nodes.append(node)
    for tensor in narrowed:
        tensor.name = build.unique_name(f"rows/{tensor.name}")


def _narrow(build: Builder, node: gs.Node, found: RowAnalysis) -> None:
    """The node reads what it needs, and its outputs get the shape that they are left with."""
    needs, rows = found.needs[node.outputs[0].name], found.left[node.outputs[0].name]
    for slot, need in enumerate(needs):
        if need is not None:
            value = Value(build, node.inputs[slot])
            node.inputs[slot] = _taken(value, need, found.left.get(value.name)).tensor
    if node.op == "Reshape" and needs[0] is not None:
        shapes = node.inputs[0].shape, node.outputs[0].shape
        told = target(*shapes, needs[0].axis, rows.axis, len(rows.places))
        node.inputs[1], node.attrs = build.constant(np.array(told, np.int64)).tensor, {}
    for each in node.outputs:
        if not each.is_empty():
            each.shape = _shape(each, rows)


def _shape(tensor: gs.Tensor, rows: RowSelection) -> list[Any]:
    return [len(rows.places) if i == rows.axis else dim for i, dim in enumerate(tensor.shape)]


def _taken(value: Value, need: RowSelection, left: RowSelection | None) -> Value:
    """The rows of a tensor of which those that are `left` are there; None: all."""
    if left == need:
        return value
    at = [left.places.index(each) for each in need.places] if left else list(need.places)
    if isinstance(value.tensor, gs.Constant):
        return value.build.constant(np.take(value.tensor.values, at, need.axis))
    shape = tuple(_shape(value.tensor, need))
    if at[0] < 0 or at != list(range(at[0], at[-1] + 1)):
        indices = value.build.constant(np.array(at, np.int64))
        return value.build.op("Gather", value, indices, axis=need.axis, shape=shape)
    found = slice_axes(value, [at[0]], [at[-1] + 1], [need.axis])
    found.tensor.shape = list(shape)
    return found


def _pick_of(build: Builder, node: gs.Node, picked: NDArray[Any], rows: RowSelection) -> None:
    """What a Gather or Slice picks it picks of the rows that are left."""
    at = np.array([rows.places.index(each) for each in picked.ravel()], np.int64)
    node.inputs = [node.inputs[0], build.constant(at.reshape(picked.shape)).tensor]
    node.op, node.attrs = "Gather", {"axis": rows.axis}
