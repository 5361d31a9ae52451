"""AffineGrid: positions in an image, moved by one matrix per image."""

from __future__ import annotations

from onnxcam.autodiff.rule_table import Rules
from onnxcam.errors import ModelError
from onnxcam.graph.slicing import broadcast_like
from onnxcam.graph.value import Value, np

rules = Rules()


def affine_grid(g: Value, y: Value, theta: Value, size: Value, *, align_corners: int) -> Value:
    """y = [p, 1] theta^T at every position p, so theta gets g^T [p, 1]. The operator itself writes p, given the
    identity.
    """
    rank = y.ndim - 2
    sizes = zip(theta.shape[1:], (rank, rank + 1), strict=True)
    if any(isinstance(dim, int) and dim != size for dim, size in sizes):
        raise ModelError(f"AffineGrid of {theta.name!r}: its matrices must be {rank} x {rank + 1}")
    identity = broadcast_like(g.build.constant(np.eye(rank, rank + 1)[None], theta.dtype), theta)
    positions = g.build.op("AffineGrid", identity, size, align_corners=align_corners, shape=y.shape)
    rows, points = (np.reshape(value, [0, -1, rank]) for value in (g, positions))
    turned = np.swapaxes(rows, 1, 2)
    moved = np.sum(turned, axis=2, keepdims=True)
    return np.concatenate([turned @ points, moved], axis=2)


rules.vjp("AffineGrid", affine_grid)
