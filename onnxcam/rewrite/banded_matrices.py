"""Matrices with a few neighboring numbers in every column or row, such as those of interpolation: computed from
these numbers and their places. Runtimes fold the result when they open the file.
"""

from __future__ import annotations

import numpy as np

from onnxcam.arrays import FLOAT32, Array
from onnxcam.graph import anp
from onnxcam.graph.tracing import Builder, Value

LEAST_SAVED = 4  # times smaller than the matrix; more numbers are not worth their nodes


def write_banded(build: Builder, matrix: Array) -> Value | None:
    """The matrix (rows, columns), exactly, computed from its bands; None if that is not much smaller.

    Only float32, as runtimes lack a Where of shorter floats. Square matrices stay, since the copies that
    `separate_shared_weights` makes of them could not be told from each other.
    """
    if matrix.ndim != len("RC") or matrix.dtype != FLOAT32 or matrix.shape[0] == matrix.shape[1]:
        return None
    for axis in (0, 1):
        first, bands = _bands(matrix, axis)
        if LEAST_SAVED * (len(bands) + 1) * first.size < matrix.size:
            return _place(build, first, bands, matrix.shape[axis], axis)
    return None


def _bands(matrix: Array, axis: int) -> tuple[Array, Array]:
    """Where the numbers of each line along `axis` begin, (lines,), and those from there on, (k, lines)."""
    lines = np.moveaxis(matrix, axis, 0)  # each line is a column now
    filled = lines != 0
    first = filled.argmax(0)
    last = len(lines) - 1 - filled[::-1].argmax(0)
    width = int(np.where(filled.any(0), last - first + 1, 1).max())
    first = np.minimum(first, len(lines) - width)
    rows = first + np.arange(width)[:, None]
    return first.astype(np.int32), np.take_along_axis(lines, rows, 0)


def _place(build: Builder, first: Array, bands: Array, size: int, axis: int) -> Value:
    """Zeros, with band k at k cells after the first."""
    across = 1 - axis
    index = build.constant(np.expand_dims(np.arange(size, dtype=np.int32), across))
    offset = index - build.constant(np.expand_dims(first, axis))
    matrix = build.constant(np.zeros((), bands.dtype))
    for k, band in enumerate(bands):
        matrix = anp.where(offset == k, build.constant(np.expand_dims(band, axis)), matrix)
    return matrix
