"""`value[index]` and the functions of NumPy that pick elements by their indices."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from typing import Any

import numpy as np

from onnxcam.arrays import Array, is_integer
from onnxcam.errors import NeedsOpsetError
from onnxcam.graph.anp.rows import normalize_axis, register, writes
from onnxcam.graph.anp.shapes import broadcast_to, expand_dims, squeeze
from onnxcam.graph.slicing import slice_axes
from onnxcam.graph.tracing import Operand, Value

END = 2**63 - 1  # of an axis of any size


def _index(value: Value, index: Any) -> Value:
    """value[index]: numbers, slices, None, an ellipsis, and one list or Value of indices."""
    indices = list(_expanded(value, index if isinstance(index, tuple) else (index,)))
    axes = [number for number in indices if number is not None]
    lists = [axis for axis, number in enumerate(axes) if not isinstance(number, int | slice)]
    numbers = [axis for axis, number in enumerate(axes) if isinstance(number, int)]
    new = [position for position, number in enumerate(_remaining(indices)) if number is None]
    if len(lists) > 1 or (lists and (numbers or new)):
        raise _refused(value, index, "one list of indices beside slices is")
    result = _sliced(value, axes)
    for axis in lists:
        result = take(result, axes[axis], axis)
    result = squeeze(result, numbers) if numbers else result
    return expand_dims(result, new) if new else result


def _expanded(value: Value, index: tuple[Any, ...]) -> Iterator[Any]:
    """One index for every axis, and None for new ones."""
    count = sum(1 for number in index if number is not None and number is not Ellipsis)
    if count > value.ndim:
        raise IndexError(f"{count} indices of {value!r}")
    full = [slice(None)] * (value.ndim - count)
    has_ellipsis = any(number is Ellipsis for number in index)
    for number in index:
        if number is Ellipsis:
            yield from full
            full = []
        elif number is None or isinstance(number, slice):
            yield number
        elif isinstance(number, bool | np.bool_):
            raise _refused(value, index, "numbers, slices, None and one list of indices are")
        elif isinstance(number, int | np.integer):
            yield int(number)
        else:
            yield number if isinstance(number, Value) else np.asarray(number)
    yield from () if has_ellipsis else full


def _remaining(indices: list[Any]) -> list[Any]:
    """The indices whose axes are in the result."""
    return [number for number in indices if not isinstance(number, int)]


def _sliced(value: Value, axes: list[Any]) -> Value:
    """All slices and numbers in one Slice; of a number an axis of size 1 remains."""
    picks = [
        (axis, *_bounds(value, axis, number))
        for axis, number in enumerate(axes)
        if isinstance(number, int) or (isinstance(number, slice) and number != slice(None))
    ]
    if not picks:
        return value
    numbers, starts, ends, steps = (list(column) for column in zip(*picks, strict=True))
    return slice_axes(value, starts, ends, numbers, steps)


def _bounds(value: Value, axis: int, index: int | slice) -> tuple[int, int, int]:
    """Start, end and step, as Slice takes them."""
    if isinstance(index, int):
        size = value.shape[axis]
        if isinstance(size, int) and not -size <= index < size:
            raise IndexError(f"index {index} of axis {axis} of {value!r}")
        return index, index + 1 if index != -1 else END, 1
    step = 1 if index.step is None else operator.index(index.step)
    start, end = (0, END) if step > 0 else (END, -END)
    start = start if index.start is None else operator.index(index.start)
    return start, end if index.stop is None else operator.index(index.stop), step


def _refused(value: Value, index: Any, possible: str) -> TypeError:
    return TypeError(f"{value!r} cannot be indexed by {index!r}; {possible} possible")


@writes(np.take)
def take(a: Value, indices: Operand | list[int], axis: int) -> Value:
    """The elements at these indices of one axis."""
    axis = normalize_axis(axis, a.ndim)
    if isinstance(indices, Value):
        positions = indices
    else:
        positions = a.build.constant(_from_first(a, np.asarray(indices), axis))
    if not is_integer(positions.dtype):
        raise _refused(a, indices, "integers are")
    return a.build.op("Gather", a, positions, axis=axis)


def _from_first(a: Value, indices: Array, axis: int) -> Array:
    """Constant indices counted from the first, where the size is known."""
    if not is_integer(indices.dtype):
        return indices
    size, numbers = a.shape[axis], indices.astype(np.int64)
    if not isinstance(size, int):
        if a.build.opset < 11 and bool((numbers < 0).any()):
            raise NeedsOpsetError("Gather", 11)
        return numbers
    if bool(((numbers < -size) | (numbers >= size)).any()):
        raise IndexError(f"indices {indices.tolist()} of axis {axis} of {a!r}")
    return numbers % size


@writes(np.take_along_axis)
def take_along_axis(arr: Value, indices: Operand, axis: int) -> Value:
    """The elements at these indices of one axis, others for each position on the other axes, or the same along
    an axis where the indices have size 1. Since opset 11.
    """
    axis = normalize_axis(axis, arr.ndim)
    positions = indices if isinstance(indices, Value) else arr.build.constant(np.asarray(indices))
    positions = _repeated(positions, arr, axis)
    others = [[*shape[:axis], *shape[axis + 1 :]] for shape in (arr.shape, positions.shape)]
    if positions.ndim != arr.ndim or others[0] != others[1] or not is_integer(positions.dtype):
        raise _refused(arr, positions, "integers of the same shape on the other axes are")
    return arr.build.op("GatherElements", arr, positions, axis=axis)


def _repeated(positions: Value, arr: Value, axis: int) -> Value:
    """Indices repeated along the other axes where they have size 1, if the size there is known."""
    if positions.ndim != arr.ndim:
        return positions
    sizes = [
        size if number != axis and own == 1 and isinstance(size, int) else own
        for number, (own, size) in enumerate(zip(positions.shape, arr.shape, strict=True))
    ]
    return positions if sizes == [*positions.shape] else broadcast_to(positions, sizes)


register(operator.getitem, _index)
