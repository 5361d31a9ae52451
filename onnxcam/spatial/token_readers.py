"""Which tokens the score reads after the last attention: the class token, or all that are averaged.

Tokens are followed through operators that treat each of them by itself (see `row_dependence`), and through
Gather, Slice and Split, which pick some. Any other operator is a reader of all that remain: a mean, a product
that mixes them, or one that drops their axis.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import onnx_graphsurgeon as gs

from onnxcam.graph.attributes import argument
from onnxcam.graph.operators import traits_of
from onnxcam.graph.reachability import Subgraph
from onnxcam.passes.row_dependence import row_axes


class _Picked(NamedTuple):
    """The tokens that a tensor holds along an axis, in order; the axis is None if it was dropped."""

    axis: int | None
    tokens: tuple[int, ...]


def tokens_read(
    path: Subgraph, tensor: gs.Tensor, axis: int, count: int, opset: int
) -> list[tuple[int, ...]]:
    """The tokens that each reader of a tensor reads, each once; `count` tokens are along `axis`."""
    picked = {tensor.name: _Picked(axis, tuple(range(count)))}
    reads: dict[tuple[int, ...], None] = {}
    for node in path.nodes:
        slots = [slot for slot, tensor in enumerate(node.inputs) if tensor.name in picked]
        if not slots or traits_of(node).zero_gradient:  # a scale of integers is no reader
            continue
        sources = [picked[node.inputs[slot].name] for slot in slots]
        results = {
            _follow(node, slot, source, opset) for slot, source in zip(slots, sources, strict=True)
        }
        if len(results) > 1 or None in results:
            reads |= dict.fromkeys(source.tokens for source in sources)
            continue
        for output, result in zip(node.outputs, results.pop() or (), strict=True):
            if result.axis is None:
                reads[result.tokens] = None
            else:
                picked[output.name] = result
    return [*reads]


def _follow(node: gs.Node, slot: int, source: _Picked, opset: int) -> tuple[_Picked, ...] | None:
    """The tokens of the outputs of a node; None if it mixes them."""
    if slot == 0 and traits_of(node).moves in ("gather", "slice"):
        picks = _picks(node, source, opset)
        if picks is not None:
            return picks
    for axis in range(len(node.outputs[0].shape or ())):
        axes = row_axes(node, axis, opset)
        if axes is not None and axes[slot] == source.axis:
            return (_Picked(axis, source.tokens),) * len(node.outputs)
    return None


def _picks(node: gs.Node, source: _Picked, opset: int) -> tuple[_Picked, ...] | None:
    """What a Gather, Slice or Split picks along the axis of the tokens; None if it picks along another."""
    axis, tokens = source.axis, np.array(source.tokens)
    rank = len(node.inputs[0].shape)
    if node.op == "Gather":
        indices = argument(node, "indices", opset)
        if int(argument(node, "axis", opset)) % rank != axis or not isinstance(indices, np.ndarray):
            return None
        return (_selected(axis if indices.ndim else None, tokens[indices]),)
    if node.op == "Split":
        if int(argument(node, "axis", opset)) % rank != axis:
            return None
        ends = np.cumsum([output.shape[axis] for output in node.outputs])
        return tuple(_selected(axis, part) for part in np.split(tokens, ends[:-1]))
    bounds = [argument(node, name, opset) for name in ("starts", "ends", "axes", "steps")]
    if any(isinstance(bound, gs.Variable) for bound in bounds):
        return None
    starts, ends, axes, steps = bounds
    axes = range(len(starts)) if axes is None else [int(i) % rank for i in axes]
    steps = [1] * len(starts) if steps is None else steps
    for start, end, i, step in zip(starts, ends, axes, steps, strict=True):
        if i == axis:
            return (_selected(axis, tokens[int(start) : int(end) : int(step)]),)
    return None


def _selected(axis: int | None, tokens: object) -> _Picked:
    return _Picked(axis, tuple(np.ravel(np.asarray(tokens)).tolist()))
