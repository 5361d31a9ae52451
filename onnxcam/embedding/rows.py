"""The rows that the network is run on in a round: the image itself and its samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np

from onnxcam.arrays import FLOAT32, Array, Dim, cast_saturating, is_integer
from onnxcam.embedding.rounds import Rounds
from onnxcam.embedding.scope import Scope
from onnxcam.graph import anp
from onnxcam.graph.tracing import Value
from onnxcam.methods.samplers.sampler import Repeated, Samples, Tabulated
from onnxcam.rewrite.loss_scale import accumulation_dtype


def write_rows(scope: Scope, rounds: Rounds, image: Value, samples: Samples | None) -> Value:
    """The inputs (rows, ...) of a round in the body: the image, and image + scale * offset of its samples."""
    base = scope.capture(image)
    if samples is None:
        return base
    if samples.offsets is None:
        return _repeat_images(scope, image, rounds.size)
    images = _with_row_axis(scope, image)
    wide = FLOAT32 if is_integer(base.dtype) else accumulation_dtype(base.dtype)
    offsets = sampled_rows(scope, rounds, samples.offsets)
    scales = _scales(scope, rounds, samples)
    column = anp.reshape(scales, (*scales.shape, *[1] * (base.ndim - 1)))
    total = images.astype(wide) + offsets.astype(wide) * column.astype(wide)
    return flatten_rows(cast_saturating(total, base.dtype))


def _scales(scope: Scope, rounds: Rounds, samples: Samples) -> Value:
    """(N or 1, size): the scales of the rows; 0 for the image itself."""
    scales = np.ones(samples.count) if samples.scales is None else samples.scales
    if not isinstance(scales, Value):
        return anp.expand_dims(scope.pick(rounds.rows_of(scales)), 0)
    counts = anp.expand_dims(scope.pick(rounds.is_sample.astype(np.float32)), 0)
    captured = scope.capture(scales)
    if captured.shape[1] == 1:
        return captured * counts
    return cast(Value, np.take(captured, scope.pick(rounds.numbers), 1)) * counts


def sampled_rows(scope: Scope, rounds: Rounds, rows: Any) -> Value:
    """(N or 1, size or 1, ...): the values of a sampler for the rows of a round."""
    if isinstance(rows, Repeated):
        return _with_row_axis(scope, rows.row)
    if not isinstance(rows, Tabulated):  # an array with a row per sample
        rows = Tabulated(lambda row: row, (rows,))
    numbers = scope.pick(rounds.numbers)
    taken = [_take(scope, table, numbers) for table in rows.tables]
    shared = [_as_value(scope, array) for array in rows.shared]
    if not rows.images:
        return anp.expand_dims(rows.compute(*taken, *shared), 0)
    captured = [_as_value(scope, row) for row in rows.images]
    if scope.images != 1:
        taken = [
            flatten_rows(
                repeat_rows(anp.expand_dims(table, 0), scope.images, axis=0, like=captured[0])
            )
            for table in taken
        ]
        captured = [_repeat_images(scope, row, rounds.size) for row in rows.images]
    return unflatten_rows(rows.compute(*taken, *captured, *shared), scope.images, rounds.size)


def _with_row_axis(scope: Scope, array: Any) -> Value:
    """(N, 1, ...) in the body. The axis is added in the outer graph: OpenVINO takes what the body reshapes for
    its own, and writes a product into the memory of a captured value, which the next rounds read.
    """
    if isinstance(array, Value):
        return scope.capture(anp.expand_dims(array, 1))
    return anp.expand_dims(_as_value(scope, array), 1)


def _repeat_images(scope: Scope, array: Any, size: int) -> Value:
    """(N * size, ...) in the body: every image once for each row."""
    if size == 1:
        return _as_value(scope, array)
    return flatten_rows(repeat_rows(_with_row_axis(scope, array), size))


def rows_for_images(scope: Scope, rows: Value) -> Value:
    """(N, size, ...) of (N or 1, size, ...)."""
    if rows.shape[0] == scope.images:
        return rows
    return repeat_rows(rows, scope.images, axis=0, like=scope.capture(scope.image))


def _take(scope: Scope, table: Any, numbers: Value) -> Value:
    """Rows of a table by their numbers."""
    value = scope.capture(table) if isinstance(table, Value) else scope.body.constant(table)
    return scope.body.op("Gather", value, numbers, axis=0)


def _as_value(scope: Scope, array: Any) -> Value:
    if isinstance(array, Value):
        return scope.capture(array)
    return scope.body.constant(np.asarray(array, np.float32))


def repeat_rows(value: Value, count: Dim, axis: int = 1, like: Value | None = None) -> Value:
    """The value repeated along an axis of size 1. A count that is no number is that of the rows of `like`."""
    build = value.build
    shape = (*value.shape[:axis], count, *value.shape[axis + 1 :])
    if isinstance(count, int):
        sizes = [1] * value.ndim
        sizes[axis] = count
        return build.op("Expand", value, build.constant(np.array(sizes, np.int64)), shape=shape)
    first = build.op("Gather", build.op("Shape", like), build.constant([0]), axis=0)
    ones = [build.constant(np.ones(length, np.int64)) for length in (axis, value.ndim - axis - 1)]
    target = anp.concatenate([ones[0], first, ones[1]])
    return build.op("Expand", value, target, shape=shape)


def flatten_rows(value: Value) -> Value:
    """(N, size, ...) -> (N * size, ...)."""
    images, size, *rest = value.shape
    rows: Dim = images * size if isinstance(images, int) and isinstance(size, int) else None
    target = _sizes(value, [_known(rows)], rest, 2)
    return value.build.op("Reshape", value, target, shape=(rows, *rest))


def unflatten_rows(value: Value, images: Dim, size: int) -> Value:
    """(N * size, ...) -> (N, size, ...)."""
    rest = list(value.shape[1:])
    target = _sizes(value, [_known(images), size], rest, 1)
    return value.build.op("Reshape", value, target, shape=(images, size, *rest))


def _sizes(value: Value, first: Sequence[int], rest: Sequence[Dim], start: int) -> Value:
    """The target of a Reshape that keeps the axes from `start` on."""
    build = value.build
    if all(isinstance(size, int) for size in rest):
        return build.constant(np.array([*first, *cast(Sequence[int], rest)], np.int64))
    axes = build.constant(np.arange(start, value.ndim))
    sizes = build.op("Gather", build.op("Shape", value), axes, axis=0)
    return anp.concatenate([build.constant(np.array(first, np.int64)), sizes])


def _known(size: Dim) -> int:
    """A size, or -1, which a Reshape finds itself."""
    return size if isinstance(size, int) else -1


def row_of_image(value: Value, images: Dim, size: int) -> Value:
    """(N, ...): the first row of each image in (N * size, ...)."""
    if size == 1:
        return value
    return unflatten_rows(value, images, size)[:, 0]


def as_rows(column: Array | Value, scope: Scope, ndim: int) -> Value:
    """A number per row (size,) in the body, broadcasting to (N, size, ...) with so many axes."""
    value = column if isinstance(column, Value) else scope.body.constant(column)
    return anp.reshape(value, (1, -1, *[1] * (ndim - 2)))
