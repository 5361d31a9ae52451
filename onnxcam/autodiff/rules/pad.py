"""Pad in every mode: zeros are cut off, and copies are added to the cells that they were copied from."""

from __future__ import annotations

from typing import Any, cast

import numpy as np

from onnxcam.arrays import Array
from onnxcam.autodiff.lowering.matmul import matmul_along
from onnxcam.autodiff.rule_table import Rules
from onnxcam.errors import ModelError
from onnxcam.graph.slicing import pad_axes, refuse_too_many
from onnxcam.graph.tracing import Value

rules = Rules()


def pad_vjp(
    g: Value, y: Value, x: Value, *, mode: str, pads: Array | Value, axes: Array | Value | None
) -> Value:
    """Pad-25: in mode constant g without the pads; in the other modes g M^T along each axis, for y = x M.

    M is the matrix of zeros and ones that copies. Negative pads cut x, so they pad g. Since opset 2.
    """
    if isinstance(pads, Value):
        return _cut_dynamic_pads(g, x, mode, pads, axes)
    begin, end = np.zeros((2, x.ndim), np.int64)
    padded_axes = list(range(x.ndim)) if axes is None else [int(axis) for axis in cast(Array, axes)]
    begin[padded_axes], end[padded_axes] = np.reshape(np.asarray(pads), (2, -1))
    if mode == "constant":
        return pad_axes(g, (-begin).tolist(), (-end).tolist())
    for axis in np.flatnonzero(begin | end).tolist():
        g = _add_copies(g, x, axis, (int(begin[axis]), int(end[axis])), mode)
    return g


def _cut_dynamic_pads(
    g: Value, x: Value, mode: str, pads: Value, axes: Array | Value | None
) -> Value:
    if mode != "constant":
        raise ModelError(
            f"the Pad that reads {x.name!r} in mode {mode} needs fixed pads; export the model with fixed pads"
        )
    operands = [-pads, g.build.constant(0, g.dtype)]
    if axes is not None:
        operands.append(axes if isinstance(axes, Value) else g.build.constant(np.asarray(axes)))
    return g.build.op("Pad", g, *operands, shape=x.shape)


def _add_copies(g: Value, x: Value, axis: int, pads: tuple[int, int], mode: str) -> Value:
    size = x.shape[axis]
    if not isinstance(size, int):
        raise ModelError(
            f"the Pad that reads {x.name!r} in mode {mode} needs a fixed size of axis {axis}; "
            "export the model with fixed sizes"
        )
    refuse_too_many(f"the Pad that reads {x.name!r}", size, size + sum(map(abs, pads)))
    cut = [max(-pad, 0) for pad in pads]
    cells = np.arange(size)[cut[0] : size - cut[1]]
    numpy_mode: Any = mode  # reflect, edge, wrap: NumPy's words too
    sources = np.pad(cells, [max(pad, 0) for pad in pads], mode=numpy_mode)
    return matmul_along(g, np.eye(size)[sources].T, axis)


rules.vjp("Pad", pad_vjp)
