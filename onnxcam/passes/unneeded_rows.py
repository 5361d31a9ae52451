"""Compute only those rows of tensors that something reads.

The classifier of a vision transformer reads one of 197 rows of the last block's output, that of the class
token. The other rows of that block's MLP, and of the queries of its attention, are computed for nothing. So are
their gradients, which are zero.

This is a backward data-flow analysis. A Gather or Slice with constant indices requests some rows of its input;
graph outputs, kept tensors and other operators request all rows. Row requests travel upstream through row-wise
operators (see `row_dependence`); where they stop, a Gather is inserted. A tensor with several readers keeps the
union of their requests: all rows, if the requests are along different axes or for too many rows.

Assumes a canonical graph with its nodes in order. Changes the graph in place. Guarantees the same values and
gradients of the graph's outputs and of kept tensors; a tensor that loses rows gets another name.
"""

from __future__ import annotations

from collections.abc import Collection
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
from onnxcam.graph.window import MAX_SPAN
from onnxcam.passes.row_dependence import reshape_target, row_axes, sliced_axes

# dropping rows pays off if an axis has this many times as many as are requested
MIN_REDUCTION = 4
ASSUMED_SIZE = 16  # of an axis of unknown size


@dataclass(frozen=True)
class RowSelection:
    """Rows of a tensor: distinct indices along an axis; negative ones, from the end, if its size is unknown."""

    axis: int
    indices: tuple[int, ...]


Request: TypeAlias = RowSelection | None  # None: all rows


@dataclass
class RowAnalysis:
    """The result of the analysis.

    `nodes`: those that something reads, in order. `remaining`: kept rows, per tensor that loses rows. `needed`:
    rows of each input, per node that loses rows. `picks`: indices, per Gather or Slice that picks rows. Tensors
    are keyed by name, nodes by the name of their first output.
    """

    nodes: list[gs.Node] = field(default_factory=list)
    remaining: dict[str, RowSelection] = field(default_factory=dict)
    needed: dict[str, list[Request]] = field(default_factory=dict)
    picks: dict[str, NDArray[Any]] = field(default_factory=dict)


def drop_unneeded_rows(graph: gs.Graph, preserved: Collection[str]) -> None:
    """Drop the rows that nothing reads, in place. The tensors whose names are in `preserved` keep all rows.

    Repeats until nothing changes: the new target of a Reshape is constant, so that tensors whose shapes were
    read for the old one may lose rows, too.
    """
    complete_names = {*preserved, *(output.name for output in graph.outputs)}
    while (analysis := _analyze(graph, complete_names)).remaining:
        _rewrite(graph, analysis)


def loses_rows(graph: gs.Graph, tensor: str, score: str) -> bool:
    """Whether a tensor may lose rows if only the score is kept."""
    return tensor in _analyze(graph, {score}).remaining


def _analyze(graph: gs.Graph, complete_names: Collection[str]) -> RowAnalysis:
    """The rows that are needed of every tensor, if all are of those whose names are in `complete_names`."""
    analysis = RowAnalysis()
    requests = dict[str, Request].fromkeys(complete_names)  # of the tensors that are read
    batch_sizes = {tensor.shape[0] for tensor in graph.inputs if tensor.shape}
    for node in reversed(graph.nodes):
        outputs = [tensor for tensor in node.outputs if not tensor.is_empty()]
        read = [requests[tensor.name] for tensor in outputs if tensor.name in requests]
        if not read:
            continue
        analysis.nodes.append(node)
        rows = reduce(_union, read)
        needed = rows and _propagate(node, rows, graph.opset)
        if rows and needed:
            analysis.remaining |= {tensor.name: rows for tensor in outputs}
            analysis.needed[node.outputs[0].name] = needed
        else:
            needed = [None] * len(node.inputs)
            if (pick := _picked_rows(node, batch_sizes, graph.opset)) is not None:
                needed[0], analysis.picks[node.outputs[0].name] = pick
        for tensor, request in zip(node.inputs, needed, strict=True):
            union = _union(requests.get(tensor.name, request), request)
            requests[tensor.name] = union if union and _pays_off(union, tensor) else None
        requests |= dict.fromkeys(tensor.name for tensor in captured_tensors(node))
    analysis.nodes.reverse()
    return analysis


def _union(first: Request, second: Request) -> Request:
    if first == second or first is None or second is None or first.axis != second.axis:
        return first if first == second else None
    return RowSelection(first.axis, tuple(sorted({*first.indices, *second.indices})))


def _pays_off(rows: RowSelection, tensor: gs.Tensor) -> bool:
    size = tensor.shape[rows.axis]
    size = size if isinstance(size, int) else ASSUMED_SIZE
    return 0 < MIN_REDUCTION * len(rows.indices) <= size


def _propagate(node: gs.Node, rows: RowSelection, opset: int) -> list[Request] | None:
    """The requests to the inputs of a row-wise operator for some rows of its outputs; None for another one."""
    axes = row_axes(node, rows.axis, opset)
    if axes is None:
        return None
    return [None if axis is None else RowSelection(axis, rows.indices) for axis in axes]


def _picked_rows(
    node: gs.Node, batch_sizes: Collection[Any], opset: int
) -> tuple[RowSelection, NDArray[Any]] | None:
    """The rows that a Gather or Slice with constant indices requests, and these indices; None for any other
    operator. The images of a batch are not rows.
    """
    if node.op not in PICKED_ROWS or node.domain or node.inputs[0].shape is None:
        return None
    picked = PICKED_ROWS[node.op](node, opset)
    if picked is None or not is_float(node.inputs[0]):
        return None
    axis, indices = picked
    size = node.inputs[0].shape[axis]
    if size in batch_sizes or (axis == 0 and not isinstance(size, int)):
        return None
    return RowSelection(axis, tuple(dict.fromkeys(indices.ravel().tolist()))), indices


def _gathered_rows(node: gs.Node, opset: int) -> tuple[int, NDArray[Any]] | None:
    indices, shape = argument(node, "indices", opset), node.inputs[0].shape
    if not isinstance(indices, np.ndarray):
        return None
    axis = int(argument(node, "axis", opset)) % len(shape)
    is_known = isinstance(shape[axis], int) and shape[axis] > 0
    return axis, indices % shape[axis] if is_known else indices


def _sliced_rows(node: gs.Node, opset: int) -> tuple[int, NDArray[Any]] | None:
    """Only the first row is certain to exist on an axis of unknown size."""
    axes = sliced_axes(node, opset)
    bounds = [argument(node, name, opset) for name in ("starts", "ends", "steps")]
    if axes is None or len(axes) != 1 or any(isinstance(bound, gs.Variable) for bound in bounds):
        return None
    start, end, step = (1 if bound is None else int(bound[0]) for bound in bounds)
    size = node.inputs[0].shape[axes[0]]
    if isinstance(size, int):
        return None if size > MAX_SPAN else (axes[0], np.arange(size)[start:end:step])
    return (axes[0], np.zeros(1, np.int64)) if (start, end, step) == (0, 1, 1) else None


PICKED_ROWS = {"Gather": _gathered_rows, "Slice": _sliced_rows}


def _rewrite(graph: gs.Graph, analysis: RowAnalysis) -> None:
    """Apply the analysis in place."""
    build, live = Builder(graph), {id(node) for node in analysis.nodes}
    for node in graph.nodes:
        if id(node) not in live:
            node.inputs.clear()
            node.outputs.clear()
    graph.nodes, narrowed = [], []  # the builder appends to the nodes
    for node in analysis.nodes:
        name = node.outputs[0].name
        if name in analysis.needed:
            _narrow(build, node, analysis)
            narrowed += [tensor for tensor in node.outputs if not tensor.is_empty()]
        elif name in analysis.picks and node.inputs[0].name in analysis.remaining:
            _renumber_pick(
                build, node, analysis.picks[name], analysis.remaining[node.inputs[0].name]
            )
        graph.nodes.append(node)
    for tensor in narrowed:
        tensor.name = build.unique_name(f"rows/{tensor.name}")


def _narrow(build: Builder, node: gs.Node, analysis: RowAnalysis) -> None:
    """Let a node read only the rows that it needs and write only those that remain, in place."""
    name = node.outputs[0].name
    requests, rows = analysis.needed[name], analysis.remaining[name]
    for slot, request in enumerate(requests):
        if request is not None:
            value = Value(build, node.inputs[slot])
            available = analysis.remaining.get(value.name)
            node.inputs[slot] = _select_rows(value, request, available).tensor
    if node.op == "Reshape" and requests[0] is not None:
        shapes = node.inputs[0].shape, node.outputs[0].shape
        target = reshape_target(*shapes, requests[0].axis, rows.axis, len(rows.indices))
        node.inputs[1], node.attrs = build.constant(np.array(target, np.int64)).tensor, {}
    for tensor in node.outputs:
        if not tensor.is_empty():
            tensor.shape = _narrowed_shape(tensor, rows)


def _narrowed_shape(tensor: gs.Tensor, rows: RowSelection) -> list[Any]:
    shape = list(tensor.shape)
    shape[rows.axis] = len(rows.indices)
    return shape


def _select_rows(value: Value, request: RowSelection, available: Request) -> Value:
    """The requested rows of a tensor of which only the `available` rows exist (None: all of them)."""
    if available == request:
        return value
    indices = list(request.indices)
    if available:
        indices = [available.indices.index(row) for row in indices]
    if isinstance(value.tensor, gs.Constant):
        return value.build.constant(np.take(value.tensor.values, indices, request.axis))
    shape = _narrowed_shape(value.tensor, request)
    if indices[0] < 0 or indices != list(range(indices[0], indices[-1] + 1)):
        rows = value.build.constant(np.array(indices, np.int64))
        return value.build.op("Gather", value, rows, axis=request.axis, shape=tuple(shape))
    cut = slice_axes(value, [indices[0]], [indices[-1] + 1], [request.axis])
    cut.tensor.shape = shape
    return cut


def _renumber_pick(
    build: Builder, node: gs.Node, indices: NDArray[Any], available: RowSelection
) -> None:
    """Let a Gather or Slice pick the same rows by their index among the available ones, in place."""
    numbers = [available.indices.index(row) for row in indices.ravel()]
    rows = np.array(numbers, np.int64).reshape(indices.shape)
    node.inputs = [node.inputs[0], build.constant(rows).tensor]
    node.op, node.attrs = "Gather", {"axis": available.axis}
