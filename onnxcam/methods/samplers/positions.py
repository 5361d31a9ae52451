"""The values of a layer around one cell, for every cell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import numpy as np

from onnxcam.arrays import Floats
from onnxcam.methods.samplers.sampler import CleanRun, Computed, Samples, sampler
from onnxcam.specs import Layer

KERNELS = {
    "gaussian": {-1: 0.25, 0: 0.5, 1: 0.25},  # along each axis, by the distance in cells
    "cell": {0: 1.0},
}


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
    values = np.asarray(clean.values, np.float32)
    height, width = clean.grid

    def removed(samples: slice) -> Floats:
        """What must be added to keep the values around each of these cells only."""
        rows, columns = np.divmod(np.arange(samples.start, samples.stop), width)
        masks = (
            near(rows, height, KERNELS[kernel])[:, :, None]
            * near(columns, width, KERNELS[kernel])[:, None]
        )
        return values * (clean.mix(masks) - 1).astype(np.float32)

    named = {"grid": np.zeros((1, height, width))}
    return Samples(height * width, Computed(removed), named=named)


def near(centers: Floats, size: int, kernel: dict[int, float]) -> Floats:
    """(n, size): the weights of a kernel around each center of an axis, 0 elsewhere."""
    distances = np.arange(size) - centers[:, None]
    return np.sum([(distances == cell) * weight for cell, weight in kernel.items()], axis=0)
