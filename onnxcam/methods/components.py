"""The first principal component over the cells of a layer.

Instead of a decomposition, a symmetric matrix is squared many times, which leaves its dominant eigenvector and
can be written into a graph. All of it is independent of the unit of the values.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from onnxcam.arrays import Dim, Floats, Maps, Saliency

CELLS: Any = (2, 3)
SQUARINGS = 10  # to the power 1024: of an eigenvalue that is smaller by 1 %, 3e-5 are left
ROUNDING = (
    1e-6  # a difference of this part of the values, or less, may be a rounding error of float32
)


def count_cells(counted: Maps) -> Floats:
    """(N, C, 1, 1): how many neurons of each feature map count, at least 1."""
    return np.maximum(np.sum(counted, axis=CELLS, keepdims=True), 1.0)


def deviations(maps: Maps, counted: Maps) -> Maps:
    """The difference of each neuron from the mean of its feature map; 0 for those that do not count, and for
    feature maps that are the same everywhere, but for rounding errors.
    """
    values = maps * counted
    mean = np.sum(values, axis=CELLS, keepdims=True) / count_cells(counted)
    differences = (values - mean) * counted
    spread, size = (
        np.max(np.abs(array), axis=CELLS, keepdims=True) for array in (differences, values)
    )
    return np.where(spread > ROUNDING * size, differences, 0.0)


def first_component(maps: Maps) -> Saliency:
    """(N, h, w): the projection of each cell's vector of C values onto the first right singular vector of the
    matrix (cells, C). Its sign is that of `orient`.

    The Gram matrix is that of the cells if they are fewer than the feature maps, and known to be.
    """
    _, channels, height, width = maps.shape
    size = _nonzero(np.max(np.abs(maps), axis=(1, 2, 3), keepdims=True))
    unit = maps / size
    columns = flatten_cells(unit)
    if _are_fewer(height, width, channels):
        vector = dominant_eigenvector(gram(np.swapaxes(columns, 1, 2)))
        direction = normalized(columns @ vector)
    else:
        direction = normalized(dominant_eigenvector(gram(columns)))
    component = np.sum(np.expand_dims(direction, 3) * unit, axis=1)
    return orient(component, unit) * np.squeeze(size, axis=1)


def flatten_cells(maps: Maps) -> Floats:
    """(N, C, h, w) -> (N, C, h w)."""
    return np.reshape(maps, (*maps.shape[:2], -1))


def _are_fewer(height: Dim, width: Dim, channels: Dim) -> bool:
    """Whether there are certainly fewer cells than feature maps; a size may be unknown in a graph."""
    if isinstance(height, int) and isinstance(width, int) and isinstance(channels, int):
        return height * width < channels
    return not isinstance(channels, int)


def gram(rows: Floats) -> Floats:
    """(N, m, n) -> (N, m, m): the products of all pairs of rows; of a symmetric matrix, its square. NumPy
    computes half of them.
    """
    return rows @ np.swapaxes(rows, 1, 2)


def dominant_eigenvector(matrix: Floats) -> Floats:
    """(N, m, m) -> (N, m, 1): the eigenvector of the largest eigenvalue in magnitude, of any length and sign; 0
    if the matrix is. Of equal eigenvalues, some vector of their space.
    """
    power = normalized(matrix)
    for _ in range(SQUARINGS):
        power = normalized(gram(power))
    lengths = np.sum(np.square(power), axis=1, keepdims=True)  # every column is an approximation
    longest = np.argmax(lengths, axis=2, keepdims=True)
    return np.take_along_axis(power, longest, axis=2)


def orient(component: Saliency, maps: Maps) -> Saliency:
    """The component with the sign with which it correlates with the sum of the feature maps. Where it does not,
    because the maps add up to the same everywhere, its largest magnitude becomes positive.
    """
    total, magnitude = np.sum(maps, axis=1), np.sum(np.abs(maps), axis=1)
    agreement, terms = (
        np.sum(array, axis=(1, 2), keepdims=True)
        for array in (component * total, np.abs(component) * magnitude)
    )
    highest, lowest = (reduce(component, axis=(1, 2), keepdims=True) for reduce in (np.max, np.min))
    is_clear = np.abs(agreement) > ROUNDING * terms
    direction = np.where(is_clear, agreement, highest + lowest)
    return np.where(direction < 0, -component, component)


def normalized(matrix: Floats) -> Floats:
    """(N, m, n) with a Euclidean norm of 1; 0 stays 0."""
    norm = np.sqrt(np.sum(np.square(matrix), axis=(1, 2), keepdims=True))
    return matrix / _nonzero(norm)


def _nonzero(size: Floats) -> Floats:
    """A divisor: 1 in place of 0."""
    return np.where(size > 0, size, 1.0)
