"""The values of a layer around one cell, for every cell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import numpy as np

from onnxcam.arrays import Floats
from onnxcam.methods.samplers.sampler import CleanRun, Samples, Tabulated, sampler
from onnxcam.specs import Layer

KERNELS = {"gaussian": (0.5, 2), "cell": (1.0, 1)}
"""The weight of the cell itself along each axis, and the distance in cells at which the weight is 0."""


def count_cells(layer: Layer, _: Mapping[str, Any]) -> int | None:
    """The number of cells of a layer, None if the graph leaves it open."""
    height, width = layer.grid
    return height * width if isinstance(height, int) and isinstance(width, int) else None


@sampler("positions", varies="activation", total=count_cells, named=("grid",))
def positions(
    clean: CleanRun,
    *,
    kernel: Annotated[
        Literal["gaussian", "cell"],
        "what is kept around a cell: 3 x 3 cells under a Gaussian, or the cell alone",
    ] = "gaussian",
) -> Samples:
    """the model after the layer, on the values around one cell; once for every cell, row by row.

    Values that are no cells, such as class tokens, are kept. The formula may take `grid` (N, h, w), zeros in
    the shape of the map.
    """
    height, width = clean.grid

    def removed(rows: Floats, columns: Floats, values: Floats) -> Floats:
        """What must be added to keep the values around each of these cells only."""
        down, across = (
            near(centers, size, *KERNELS[kernel])
            for centers, size in ((rows, height), (columns, width))
        )
        return values * (clean.mix(down[:, :, None] * across[:, None]) - 1)

    cells = np.divmod(np.arange(height * width), width)
    rows, columns = (numbers.astype(np.float32)[:, None] for numbers in cells)
    values = clean.values.astype(np.float32, copy=False)
    return Samples(
        height * width,
        Tabulated(removed, (rows, columns), (values,)),
        named={"grid": np.zeros((1, height, width))},
    )


def near(centers: Floats, size: int, peak: float, reach: int) -> Floats:
    """(n, size) float32: weights around each of the centers (n, 1) of an axis, 0 from a distance `reach` on."""
    distances = np.abs(np.arange(size, dtype=np.float32) - centers)
    return np.maximum(peak - peak / reach * distances, 0.0)
