"""Enlarge small arrays to masks of the image, one after another, so that they stay in the processor's cache."""

from __future__ import annotations

import numpy as np

from onnxcam.arrays import Floats


def enlarge(cells: Floats, rows: Floats, columns: Floats, out: Floats) -> Floats:
    """Cells (h, w) interpolated linearly at these positions, in cells, and written into `out`, (rows, columns)
    float32.
    """
    wide = np.empty((len(columns), len(cells)), np.float32)
    _interpolate_rows(cells.T, columns, wide)
    return _interpolate_rows(np.ascontiguousarray(wide.T), rows, out)


def _interpolate_rows(cells: Floats, positions: Floats, out: Floats) -> Floats:
    lower = positions.astype(np.intp)
    np.take(cells, lower, 0, out=out, mode="clip")
    rise = np.take(cells, np.minimum(lower + 1, len(cells) - 1), 0, mode="clip")
    rise -= out
    rise *= (positions - lower).astype(np.float32)[:, None]
    out += rise
    return out


def cell_positions(
    size: int, cells: int, shift: float = 0.0, length: float | None = None
) -> Floats:
    """(size,): the positions of pixels along an axis of so many cells, from 0, the center of the first cell, to
    that of the last one; pixels beyond them have these positions. The cells are `length` pixels long together
    (by default `size`), and the first pixel is number `shift` of them.
    """
    pixels = np.arange(size) + shift + 0.5
    return np.clip(pixels * cells / (length or size) - 0.5, 0, cells - 1)
