"""Functions of NumPy that arrange elements: shapes, orders of axes, sequences, and filled tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np

from onnxcam.arrays import Dim
from onnxcam.graph.anp.rows import (
    Axes,
    Joining,
    normalize_axes,
    normalize_axis,
    register,
    writes,
)
from onnxcam.graph.slicing import dim_size, with_axes
from onnxcam.graph.slicing import full_like as filled_like
from onnxcam.graph.tracing import Operand, Value


@writes(np.reshape)
def reshape(a: Value, shape: int | Sequence[Dim]) -> Value:
    """The same elements in another shape. A size of `a.shape` that is a name may be in it; 0 at a position
    stands for the size of `a` there, as in ONNX.
    """
    sizes = [shape] if isinstance(shape, int | np.integer) else list(shape)
    same = [
        isinstance(size, str) and i < a.ndim and size == a.shape[i] for i, size in enumerate(sizes)
    ]
    targets = [0 if is_same else size for size, is_same in zip(sizes, same, strict=True)]
    unknown = [i for i, size in enumerate(targets) if not isinstance(size, int | np.integer)]
    if len(unknown) == 1 and -1 not in targets:
        targets[unknown[0]] = -1
    keeps_names = bool(unknown or any(same)) and -1 not in sizes and 0 not in sizes
    result = tuple(sizes) if keeps_names else None
    return a.build.op("Reshape", a, _target(a, targets), shape=result)


def _target(a: Value, sizes: list[Dim]) -> Value:
    """The second input of Reshape: a constant, if no size is a name."""
    if all(isinstance(size, int | np.integer) for size in sizes):
        return a.build.constant(np.array(sizes, np.int64))
    return a.build.op("Concat", *(_size_named(a, size) for size in sizes), axis=0)


def _size_named(a: Value, size: Dim) -> Value:
    """A size as int64 (1,): a number, or the name of a size of `a`."""
    if isinstance(size, int | np.integer):
        return a.build.constant(np.array([size], np.int64))
    if size is None or size not in a.shape:
        raise TypeError(f"{a!r} cannot be reshaped to a size {size!r}, which is none of its sizes")
    return dim_size(a, a.shape.index(size))


@writes(np.transpose)
def transpose(a: Value, axes: Sequence[int] | None = None) -> Value:
    """The same elements with the axes in another order; without an order, reversed."""
    rank = a.ndim
    order = list(range(rank))[::-1] if axes is None else [normalize_axis(i, rank) for i in axes]
    return a if order == list(range(rank)) else a.build.op("Transpose", a, perm=order)


@writes(np.swapaxes)
def swapaxes(a: Value, axis1: int, axis2: int) -> Value:
    """The same elements with two axes exchanged."""
    order = list(range(a.ndim))
    order[axis1], order[axis2] = order[axis2], order[axis1]
    return transpose(a, order)


@writes(np.moveaxis)
def moveaxis(a: Value, source: Axes, destination: Axes) -> Value:
    """The same elements with axes moved to these positions; the others stay in their order."""
    sources, destinations = (
        [normalize_axis(int(i), a.ndim) for i in np.atleast_1d(np.asarray(axes))]
        for axes in (source, destination)
    )
    order = [axis for axis in range(a.ndim) if axis not in sources]
    for position, axis in sorted(zip(destinations, sources, strict=True)):
        order.insert(position, axis)
    return transpose(a, order)


@writes(np.broadcast_to)
def broadcast_to(a: Value, shape: Sequence[Dim]) -> Value:
    """The elements repeated along axes of size 1, and along new first axes. A size that is a name is that of
    `a` at this position from the last.
    """
    aligned = (*[1] * (len(shape) - a.ndim), *a.shape)
    sizes = []
    for size, target in zip(aligned, shape, strict=True):
        if not isinstance(target, int | np.integer) and (target is None or target != size):
            raise TypeError(f"{a!r} cannot be broadcast to a size {target!r}, which is not its own")
        sizes.append(target if isinstance(target, int | np.integer) else 1)
    return a.build.op("Expand", a, a.build.constant(np.array(sizes, np.int64)))


@writes(np.expand_dims)
def expand_dims(a: Value, axis: Axes) -> Value:
    """The same elements with new axes of size 1 at these positions of the result."""
    axes = np.atleast_1d(np.asarray(axis))
    rank = a.ndim + len(axes)
    return with_axes("Unsqueeze", a, sorted(normalize_axis(int(index), rank) for index in axes))


@writes(np.squeeze)
def squeeze(a: Value, axis: Axes | None = None) -> Value:
    """The same elements without these axes of size 1, by default all whose size is known to be 1."""
    if axis is None and any(not isinstance(size, int) for size in a.shape):
        raise TypeError(f"which axes of {a!r} have size 1 is unknown; name them with axis=")
    ones = [i for i, size in enumerate(a.shape) if size == 1]
    axes = ones if axis is None else normalize_axes(a, axis)
    return with_axes("Squeeze", a, axes) if axes else a


def _joined(arrays: Sequence[Operand]) -> list[Value]:
    """All of a sequence as Values of one dtype."""
    like = next(operand for operand in arrays if isinstance(operand, Value))
    values = [like.constant_like(operand) for operand in arrays]
    if any(isinstance(value.dtype, int) for value in values):
        return values
    dtype = np.result_type(*(cast(Any, value.dtype) for value in values))
    return [value.astype(dtype) for value in values]


def _concatenate(arrays: Sequence[Operand], axis: int = 0) -> Value:
    values = _joined(arrays)
    axis = normalize_axis(axis, values[0].ndim)
    return values[0].build.op("Concat", *values, axis=axis)


def _stack(arrays: Sequence[Operand], axis: int = 0) -> Value:
    values = _joined(arrays)
    axis = normalize_axis(axis, values[0].ndim + 1)
    return _concatenate([expand_dims(value, axis) for value in values], axis)


register(np.concatenate, _concatenate)
register(np.stack, _stack)
concatenate, stack = cast(Joining, np.concatenate), cast(Joining, np.stack)


@writes(np.full_like)
def full_like(a: Value, fill_value: float, dtype: Any = None) -> Value:
    """A number in the shape of `a`, and in its dtype if nothing else is said."""
    return filled_like(a if dtype is None else a.astype(dtype), fill_value)


@writes(np.zeros_like)
def zeros_like(a: Value, dtype: Any = None) -> Value:
    """Zeros in the shape of `a`."""
    return full_like(a, 0.0, dtype)


@writes(np.ones_like)
def ones_like(a: Value, dtype: Any = None) -> Value:
    """Ones in the shape of `a`."""
    return full_like(a, 1.0, dtype)
