"""Slicing, padding and filling Values, as each opset writes it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from onnxcam.arrays import FLOAT32, Shape
from onnxcam.errors import ModelError
from onnxcam.graph.tracing import Value

PRECISE = (FLOAT32, np.dtype(np.float64))
MOST_NUMBERS = 1 << 28  # in a table that a rule writes: 2 GB in float64
MOST_FACTORS = 1 << 16  # in a constant that broadcasts a value by a product


def refuse_too_many(subject: str, *counts: int) -> None:
    """ModelError if a table with so many rows, columns, … is too large to be written into the model."""
    if math.prod(counts) > MOST_NUMBERS:
        raise ModelError(
            f"the gradient of {subject} needs a table of {' x '.join(map(str, counts))} numbers, more than "
            f"the maximum of {MOST_NUMBERS}; choose a layer after it (`onnxcam layers`)"
        )


AXES_ARE_AN_INPUT_FROM = {"ReduceSum": 13, "Squeeze": 13, "Unsqueeze": 13}  # the others: 18


def with_axes(operator: str, value: Value, axes: Sequence[int], **attributes: Any) -> Value:
    """An operator whose axes are an attribute or an input, depending on the opset."""
    build = value.build
    if build.opset < AXES_ARE_AN_INPUT_FROM.get(operator, 18):
        return build.op(operator, value, axes=list(axes), **attributes)
    return build.op(operator, value, build.constant(np.array(axes, np.int64)), **attributes)


def slice_axes(
    value: Value,
    starts: Sequence[int],
    ends: Sequence[int],
    axes: Sequence[int],
    steps: Sequence[int] = (),
) -> Value:
    """value[start:end:step] along several axes, of constant starts, ends and steps; no steps are steps of 1,
    others are of opset 10.
    """
    needed_steps = [steps] if any(step != 1 for step in steps) else []
    if value.build.opset < 10 and not needed_steps:
        return value.build.op("Slice", value, starts=list(starts), ends=list(ends), axes=list(axes))
    limits = (starts, ends, axes, *needed_steps)
    constants = [value.build.constant(np.array(numbers, np.int64)) for numbers in limits]
    return value.build.op("Slice", value, *constants)


def slice_equal(value: Value, index: int, axis: int, size: int = 1) -> Value:
    """The index-th of equal slices along an axis, each of this size."""
    return slice_axes(value, [index * size], [(index + 1) * size], [axis])


def slice_dynamic(value: Value, axis: int, start: Value, end: Value) -> Value:
    """value[start:end] along one axis; start and end are int64 (1,) Values."""
    return value.build.op("Slice", value, start, end, value.build.constant(np.array([axis])))


def pad_axes(value: Value, begin: Sequence[int], end: Sequence[int]) -> Value:
    """The value padded with zeros, one number per axis; negative numbers crop."""
    pads = [int(count) for count in (*begin, *end)]
    if not any(pads):
        return value
    if value.build.opset < 11:
        return value.build.op("Pad", value, pads=pads, value=0.0)
    zero = value.build.constant(0, value.dtype)
    return value.build.op("Pad", value, value.build.constant(np.array(pads, np.int64)), zero)


def pad_to(value: Value, shape: Shape) -> Value:
    """The value padded with zeros, or cropped, at the end of each axis to this shape. Unknown sizes stay."""
    end = [
        target - size if isinstance(size, int) and isinstance(target, int) else 0
        for size, target in zip(value.shape, shape, strict=True)
    ]
    return pad_axes(value, [0] * len(end), end)


def pad_dynamic(value: Value, axis: int, begin: Value, end: Value) -> Value:
    """The value padded with zeros along one axis; begin and end are int64 (1,) Values."""
    build, rank = value.build, value.ndim
    zero = build.constant(np.zeros(1, np.int64))
    before, after = [zero] * axis, [zero] * (rank - axis - 1)
    pads = build.op("Concat", *before, begin, *after, *before, end, *after, axis=0)
    return build.op("Pad", value, pads, build.constant(0, value.dtype))


def dim_size(value: Value, axis: int) -> Value:
    """The size of one axis as an int64 (1,) Value."""
    size = value.shape[axis]
    if isinstance(size, int):
        return value.build.constant(np.array([size], np.int64))
    index = value.build.constant(np.array([axis], np.int64))
    return value.build.op("Gather", value.build.op("Shape", value), index, axis=0)


def arange(size: Value) -> Value:
    """0, 1, … size - 1 as int64; `size` is an int64 Value of one element, known now or at run time."""
    build = size.build
    if size.constant is not None:
        return build.constant(np.arange(int(size.constant.item())))
    scalar = build.op("Reshape", size, build.constant(np.array([], np.int64)))
    return build.op("Range", build.constant(np.int64(0)), scalar, build.constant(np.int64(1)))


def full_like(like: Value, number: float) -> Value:
    """A Value of the same shape and dtype, filled with a number."""
    build = like.build
    if like.constant is not None:
        return build.constant(np.full(like.constant.shape, number, like.constant.dtype))
    one = build.constant(np.full(1, number), like.dtype)
    return build.op("Expand", one, build.shape_of(like), shape=like.shape)


def broadcast_like(value: Value, like: Value, divisor: float = 1.0) -> Value:
    """The value over a divisor, broadcast to the shape of `like`."""
    if (sizes := _shape_of_factors(value, like)) is not None:
        return value * np.full(sizes, 1 / divisor)
    quotient = value if divisor == 1 else value / divisor
    if value.shape == like.shape:
        return quotient
    return value.build.op("Expand", quotient, value.build.shape_of(like), shape=like.shape)


def _shape_of_factors(value: Value, like: Value) -> list[int] | None:
    """The shape of a constant that broadcasts the value by a product, which on CPUs takes a fifth of the time
    of Expand; None if the shapes are unknown, or in half precision, where 1 / divisor may underflow.
    """
    if value.dtype not in PRECISE or value.ndim != like.ndim or value.shape == like.shape:
        return None
    pairs = list(zip(value.shape, like.shape, strict=True))
    sizes = [1 if size == target else target for size, target in pairs if size in (1, target)]
    numbers = [size for size in sizes if isinstance(size, int) and size > 0]
    return numbers if len(numbers) == value.ndim and math.prod(numbers) <= MOST_FACTORS else None
