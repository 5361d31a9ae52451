"""GridSample: sampling at computed positions (Jaderberg et al. 2015, arXiv:1506.02025)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from operator import mul

from onnxcam.autodiff.lowering.grid_sampling import Sampling
from onnxcam.autodiff.rule_table import Rules
from onnxcam.graph import anp
from onnxcam.graph.slicing import full_like
from onnxcam.graph.tracing import Value

rules = Rules()
MODES = {"bilinear": "linear", "bicubic": "cubic"}  # names before opset 20


def grid_sample_vjp_input(
    g: Value, y: Value, x: Value, grid: Value, *, mode: str, padding_mode: str, align_corners: int
) -> Value:
    """GridSample-22, y = sum of weight times cell: zeros, with g times weight added at each cell.

    Since opset 16.
    """
    sampling = Sampling(x, grid, MODES.get(mode, mode), padding_mode, bool(align_corners))
    flat = anp.reshape(g, [0, 0, -1])
    total = anp.reshape(full_like(x, 0.0), [0, 0, -1])
    for index, taps in sampling.corners():
        updates = flat * multiply([tap.weight.astype(g.dtype) for tap in taps])
        indices = g.build.op("Expand", index, g.build.op("Shape", updates))
        total = g.build.op("ScatterElements", total, indices, updates, axis=2, reduction="add")
    return g.build.op("Reshape", total, g.build.shape_of(x), shape=x.shape)


def grid_sample_vjp_grid(
    g: Value, y: Value, x: Value, grid: Value, *, mode: str, padding_mode: str, align_corners: int
) -> Value:
    """For each axis of a position: the sum of g times cell times slope, over channels and cells."""
    sampling = Sampling(x, grid, MODES.get(mode, mode), padding_mode, bool(align_corners))
    flat_x, flat = anp.reshape(x, [0, 0, -1]), anp.reshape(g, [0, 0, -1])
    terms: list[list[Value]] = [[] for _ in range(sampling.rank)]
    for index, taps in sampling.corners():
        indices = g.build.op("Expand", index, g.build.op("Shape", flat))
        cells = g.build.op("GatherElements", flat_x, indices, axis=2)
        share = anp.sum(flat * cells, axis=1, keepdims=True).astype(grid.dtype)
        for axis in range(sampling.rank):
            factors = [tap.slope if i == axis else tap.weight for i, tap in enumerate(taps)]
            terms[axis].append(share * multiply(factors))
    columns = [
        sum(shares[1:], start=shares[0]) * sampling.cells_per_unit(axis)
        for axis, shares in enumerate(terms)
    ]
    cotangent = anp.swapaxes(anp.concatenate(columns[::-1], axis=1), 1, 2)
    return g.build.op("Reshape", cotangent, g.build.shape_of(grid), shape=grid.shape)


def multiply(factors: Sequence[Value]) -> Value:
    """The product of all factors."""
    return reduce(mul, factors)


rules.vjp("GridSample", grid_sample_vjp_input, grid_sample_vjp_grid)
