"""AffineGrid: positions in an image, transformed by one matrix for each image."""

from __future__ import annotations

import numpy as np

from onnxcam.autodiff.rule_table import Rules
from onnxcam.errors import ModelError
from onnxcam.graph import anp
from onnxcam.graph.slicing import broadcast_like
from onnxcam.graph.tracing import Value

rules = Rules()


def affine_grid_vjp(g: Value, y: Value, theta: Value, size: Value, *, align_corners: int) -> Value:
    """AffineGrid-20, y = [p, 1] theta^T at every position p: g^T [p, 1].

    p is AffineGrid of the identity.
    """
    rank = y.ndim - 2
    sizes = zip(theta.shape[1:], (rank, rank + 1), strict=True)
    if any(isinstance(dim, int) and dim != expected for dim, expected in sizes):
        raise ModelError(
            f"the AffineGrid that reads {theta.name!r} needs matrices of {rank} x {rank + 1} numbers; "
            "correct the model"
        )
    identity = broadcast_like(g.build.constant(np.eye(rank, rank + 1)[None], theta.dtype), theta)
    positions = g.build.op("AffineGrid", identity, size, align_corners=align_corners, shape=y.shape)
    rows, points = (anp.reshape(value, [0, -1, rank]) for value in (g, positions))
    columns = anp.swapaxes(rows, 1, 2)
    translation = anp.sum(columns, axis=2, keepdims=True)
    return anp.concatenate([columns @ points, translation], axis=2)


rules.vjp("AffineGrid", affine_grid_vjp)
