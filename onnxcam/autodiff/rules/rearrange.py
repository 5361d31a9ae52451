"""Operators that rearrange cells, or add along an axis: the gradient is an operator of the same kind."""

from __future__ import annotations

import numpy as np

from onnxcam.arrays import Array, Shape
from onnxcam.autodiff.rule_table import Rules
from onnxcam.errors import ModelError
from onnxcam.graph import anp
from onnxcam.graph.slicing import dim_size
from onnxcam.graph.tracing import Value

rules = Rules()


def depth_to_space_vjp(g: Value, y: Value, x: Value, *, blocksize: int, mode: str | None) -> Value:
    """DepthToSpace-28: SpaceToDepth, its channels reordered for mode CRD. Since opset 1."""
    blocks = g.build.op("SpaceToDepth", g, blocksize=blocksize)
    if mode != "CRD":
        return blocks
    channels = x.shape[1]
    if not isinstance(channels, int):
        raise ModelError(
            f"the DepthToSpace that reads {x.name!r} needs a fixed number of channels; "
            "export the model with fixed sizes"
        )
    order = np.arange(channels).reshape(blocksize * blocksize, -1).T.ravel()
    return g.build.op("Gather", blocks, g.build.constant(order.astype(np.int64)), axis=1)


def space_to_depth_vjp(g: Value, y: Value, x: Value, *, blocksize: int, mode: str | None) -> Value:
    """SpaceToDepth-28: DepthToSpace of the same mode. Since opset 1; CRD since opset 28."""
    return g.build.op("DepthToSpace", g, blocksize=blocksize, mode=mode)


def tile_vjp(g: Value, y: Value, x: Value, *, repeats: Array | Value) -> Value:
    """Tile-13: the sum over the repetitions. Since opset 6.

    Each tiled axis of g is reshaped to two axes, repetitions and cells.
    """
    build = g.build
    dims: list[Value] = []
    axes: list[int] = []
    for axis in range(x.ndim):
        if not isinstance(repeats, Value) and int(np.asarray(repeats)[axis]) == 1:
            dims.append(dim_size(x, axis))
            continue
        index = build.constant(np.array([axis]))
        counts = repeats if isinstance(repeats, Value) else build.constant(np.asarray(repeats))
        axes.append(len(dims))
        dims += [build.op("Gather", counts, index, axis=0), dim_size(x, axis)]
    if not axes:
        return g
    shape = _insert_axes(x.shape, axes)
    repetitions = build.op("Reshape", g, anp.concatenate(dims, axis=0), shape=shape)
    cotangent = anp.sum(repetitions, axis=axes)
    cotangent.tensor.shape = list(x.shape)
    return cotangent


def _insert_axes(shape: Shape, axes: list[int]) -> Shape:
    """The shape with axes of unknown size."""
    dims = list(shape)
    for axis in axes:
        dims.insert(axis, None)
    return tuple(dims)


def cumsum_vjp(g: Value, y: Value, x: Value, axis: Value, *, exclusive: int, reverse: int) -> Value:
    """CumSum-14: the cumulative sum from the other end. Since opset 11."""
    return g.build.op("CumSum", g, axis, exclusive=exclusive, reverse=int(not reverse))


def trilu_vjp(g: Value, y: Value, x: Value, k: Value | None, *, upper: int) -> Value:
    """Trilu-14: the same triangle of g."""
    return g.build.op("Trilu", g, *([] if k is None else [k]), upper=upper)


def reverse_sequence_vjp(
    g: Value, y: Value, x: Value, lengths: Value, *, batch_axis: int, time_axis: int
) -> Value:
    """ReverseSequence-28: the same reversal of g. Since opset 10."""
    return g.build.op("ReverseSequence", g, lengths, batch_axis=batch_axis, time_axis=time_axis)


rules.vjp("DepthToSpace", depth_to_space_vjp)
rules.vjp("SpaceToDepth", space_to_depth_vjp)
rules.vjp("Tile", tile_vjp)
rules.vjp("CumSum", cumsum_vjp)
rules.vjp("Trilu", trilu_vjp)
rules.vjp("ReverseSequence", reverse_sequence_vjp)
