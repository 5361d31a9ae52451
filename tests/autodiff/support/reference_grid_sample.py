"""GridSample, DeformConv and AffineGrid in float64: onnx.reference rounds positions to float32."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx.reference.op_run import OpRun

Doubles = NDArray[np.float64]


class GridSample(OpRun):  # type: ignore[misc]  # onnx has no types
    op_domain = ""

    def _run(
        self, x: Doubles, grid: Doubles, align_corners: int, mode: str, padding_mode: str
    ) -> tuple[Doubles]:
        letters = "ijk"[: x.ndim - 2]
        terms = f"nc{letters}," + ",".join(f"np{letter}" for letter in letters) + "->ncp"
        flat = grid.reshape(len(grid), -1, x.ndim - 2)[..., ::-1]
        weights = [
            _weights(flat[..., axis], size, bool(align_corners), mode, padding_mode)
            for axis, size in enumerate(x.shape[2:])
        ]
        return (np.einsum(terms, x, *weights).reshape(*x.shape[:2], *grid.shape[1:-1]),)


class DeformConv(OpRun):  # type: ignore[misc]  # onnx has no types
    op_domain = ""

    def _run(
        self,
        x: Doubles,
        w: Doubles,
        offset: Doubles,
        bias: Doubles | None = None,
        mask: Doubles | None = None,
        **attributes: Any,
    ) -> tuple[Doubles]:
        kernel, (n, groups) = w.shape[2:], (len(x), attributes.get("offset_group") or 1)
        cells, sizes = int(np.prod(kernel)), offset.shape[2:]
        moved = offset.reshape(n, groups, cells, 2, *sizes)
        hats = []
        for axis in range(2):
            tap = np.indices(kernel)[axis].ravel() * (attributes.get("dilations") or [1, 1])[axis]
            out = np.indices(sizes)[axis] * (attributes.get("strides") or [1, 1])[axis]
            start = tap[:, None, None] + out - (attributes.get("pads") or [0] * 4)[axis]
            distance = np.abs(
                (moved[:, :, :, axis] + start)[..., None] - np.arange(x.shape[2 + axis])
            )
            hats.append(np.maximum(1 - distance, 0))
        if mask is not None:
            hats[0] = hats[0] * mask.reshape(n, groups, cells, *sizes, 1)
        sampled = np.einsum("ngchw,ngkpqh,ngkpqw->ngckpq", _split(x, groups), *hats)
        parts = attributes.get("group") or 1
        table = sampled.reshape(n, parts, -1, cells, *sizes)
        taps = w.reshape(parts, -1, w.shape[1], cells)
        y = np.einsum("ngckpq,gock->ngopq", table, taps).reshape(n, len(w), *sizes)
        return (y if bias is None else y + bias[:, None, None],)


def _split(x: Doubles, groups: int) -> Doubles:
    return x.reshape(len(x), groups, -1, *x.shape[2:])


def _weights(where: Doubles, size: int, align: bool, mode: str, padding: str) -> Doubles:
    """The weight (N, P, size) of every cell of an axis: that of its copies on a padded axis."""
    positions = (where + 1) / 2 * (size - 1) if align else ((where + 1) * size - 1) / 2
    around = 4 + int(np.max(np.abs(positions)))
    cells = np.arange(-around, size + around)
    distance = np.abs(positions[..., None] - cells)
    if mode in ("linear", "bilinear"):
        near = np.maximum(1 - distance, 0)
    elif mode in ("cubic", "bicubic"):
        near = _keys(distance)
    else:
        near = (cells == np.rint(positions)[..., None]).astype(np.float64)
    how: Any = {"border": "edge", "reflection": "reflect" if align else "symmetric"}.get(padding)
    if how is None:
        return np.asarray(near[..., around : around + size])
    source = np.pad(np.arange(size), around, mode=how)
    return np.asarray(near @ np.eye(size)[source])


def _keys(d: Doubles, a: float = -0.75) -> Doubles:
    inner = (a + 2) * d**3 - (a + 3) * d**2 + 1
    outer = a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a
    return np.where(d <= 1, inner, np.where(d < 2, outer, 0.0))


class AffineGrid(OpRun):  # type: ignore[misc]  # onnx has no types
    op_domain = ""

    def _run(self, theta: Doubles, size: Any, align_corners: int = 0) -> tuple[Doubles]:
        """Positions between -1 and 1: the centers of the cells, or with the outermost cells at the ends."""
        axes = [
            np.linspace(-1, 1, n) if align_corners else (2 * np.arange(n) + 1) / n - 1
            for n in size[2:]
        ]
        columns = np.meshgrid(*axes, indexing="ij")[::-1]
        positions = np.stack([*columns, np.ones(tuple(size[2:]))], axis=-1)
        return (np.einsum("nij,...j->n...i", theta, positions),)
