"""Operators that rearrange cells, or add along an axis: the gradient is an operator of the same kind."""

from __future__ import annotations

from onnxcam.arrays import Array
from onnxcam.autodiff.rule_table import Rules
from onnxcam.errors import ModelError
from onnxcam.graph.slicing import dim_size
from onnxcam.graph.value import Value, np

rules = Rules()
vjp = rules.vjp


def depth_to_space(g: Value, y: Value, x: Value, *, blocksize: int, mode: str | None) -> Value:
    """SpaceToDepth, which counts the cells of a block first (DCR); for CRD its channels are reordered."""
    found = g.build.op("SpaceToDepth", g, blocksize=blocksize)
    if mode != "CRD":
        return found
    channels = x.shape[1]
    if not isinstance(channels, int):
        raise ModelError(f"DepthToSpace of {x.name!r}: its number of channels must be fixed")
    order = np.arange(channels).reshape(blocksize * blocksize, -1).T.ravel()
    return g.build.op("Gather", found, g.build.constant(order.astype(np.int64)), axis=1)


vjp("DepthToSpace", depth_to_space)
vjp(
    "SpaceToDepth", lambda g, y, x, *, blocksize: g.build.op("DepthToSpace", g, blocksize=blocksize)
)


def tile(g: Value, y: Value, x: Value, *, repeats: Array | Value) -> Value:
    """The sum over the repetitions: each tiled axis is split in two, repetitions and cells."""
    build = g.build
    dims: list[Value] = []
    summed: list[int] = []
    for axis in range(x.ndim):
        if not isinstance(repeats, Value) and int(np.asarray(repeats)[axis]) == 1:
            dims.append(dim_size(x, axis))
            continue
        place = build.constant(np.array([axis]))
        given = repeats if isinstance(repeats, Value) else build.constant(np.asarray(repeats))
        summed.append(len(dims))
        dims += [build.op("Gather", given, place, axis=0), dim_size(x, axis)]
    if not summed:
        return g
    apart = build.op("Reshape", g, np.concatenate(dims, axis=0), shape=_apart(x, summed))
    found = np.sum(apart, axis=summed)
    found.tensor.shape = list(x.shape)
    return found


def _apart(x: Value, summed: list[int]) -> tuple[int | str | None, ...]:
    shape = list(x.shape)
    for axis in summed:
        shape.insert(axis, None)
    return tuple(shape)


vjp("Tile", tile)


def cumulative_sum(
    g: Value, y: Value, x: Value, axis: Value, *, exclusive: int, reverse: int
) -> Value:
    """The sum from the other end."""
    return g.build.op("CumSum", g, axis, exclusive=exclusive, reverse=int(not reverse))


vjp("CumSum", cumulative_sum)


def triangle(g: Value, y: Value, x: Value, k: Value | None, *, upper: int) -> Value:
    """The same triangle of g."""
    return g.build.op("Trilu", g, *([] if k is None else [k]), upper=upper)


vjp("Trilu", triangle)


def reverse_sequence(
    g: Value, y: Value, x: Value, lengths: Value, *, batch_axis: int, time_axis: int
) -> Value:
    """The same reversal."""
    return g.build.op("ReverseSequence", g, lengths, batch_axis=batch_axis, time_axis=time_axis)


vjp("ReverseSequence", reverse_sequence)
