"""The Feature Explanation Method: the cells where a feature map is unusually high."""

from __future__ import annotations

from typing import Annotated

import numpy as np

from onnxcam.arrays import Maps, Saliency
from onnxcam.methods.components import CELLS, ROUNDING, count_cells, deviations
from onnxcam.methods.method import method
from onnxcam.methods.settings import Range


@method("fem", source="Fuad et al. 2020")
def fem(
    activation: Maps,
    counted: Maps,
    *,
    threshold: Annotated[
        float, "standard deviations above the mean from which a cell is unusual", Range(0.0)
    ] = 2.0,
) -> Saliency:
    """Where feature maps are unusually high, without a target and without a gradient.

    L = relu(sum_k mu_k B_k), B_k = [A_k >= mu_k + 2 sigma_k], mu_k and sigma_k the mean and the standard
    deviation of A_k over the cells. A feature map that is the same everywhere has no unusual cell.
    """
    cells, deviation = count_cells(counted), deviations(activation, counted)
    mean = np.sum(activation * counted, axis=CELLS, keepdims=True) / cells
    sigma = np.sqrt(np.sum(np.square(deviation), axis=CELLS, keepdims=True) / cells)
    is_high = deviation >= (threshold - ROUNDING) * sigma  # where equal, too, whatever the rounding
    is_unusual = np.logical_and(is_high, sigma * counted > 0)
    return np.maximum(np.sum(np.where(is_unusual, mean, 0.0), axis=1), 0.0)
