"""Products of matrices along any axis, with constants transposed when the graph is written."""

from __future__ import annotations

import numpy as np

from onnxcam.arrays import Floats
from onnxcam.graph import anp
from onnxcam.graph.tracing import Value

MAX_TRANSPOSED_BYTES = 1 << 27  # a larger constant is not stored a second time


def transpose_last_two(matrix: Value) -> Value:
    """The matrix with its last two axes exchanged; a constant that is not too large is transposed now."""
    if matrix.constant is not None and matrix.constant.nbytes <= MAX_TRANSPOSED_BYTES:
        return matrix.build.constant(np.swapaxes(matrix.constant, -1, -2))
    return anp.swapaxes(matrix, matrix.ndim - 2, matrix.ndim - 1)


def matmul_along(g: Value, matrix: Floats | Value, axis: int) -> Value:
    """g M^T along one axis: the cotangent of x, given that of y = x M."""
    m = matrix if isinstance(matrix, Value) else g.build.constant(matrix, g.dtype)
    if axis == g.ndim - 2:
        return m @ g
    moved = anp.swapaxes(g, axis, g.ndim - 1)
    return anp.swapaxes(moved @ transpose_last_two(m), axis, g.ndim - 1)
