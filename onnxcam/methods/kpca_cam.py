"""KPCA-CAM: the first component of a kernel PCA over the cells of a layer."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from onnxcam.arrays import Floats, Maps, Saliency
from onnxcam.methods.components import (
    CELLS,
    deviations,
    dominant_eigenvector,
    flatten_cells,
    gram,
    normalized,
    orient,
)
from onnxcam.methods.method import method

MAX_CELLS = 4096
"""All pairs of more cells than these would take more than half a gigabyte, and minutes."""
OFFSET = math.tanh(1.0)  # the kernel of cells that are like the mean of all


def too_many_cells(activation: Maps, *, is_constant: bool) -> str | None:
    """Why a layer is too large; None if it is not."""
    del is_constant
    height, width = activation.shape[2:]
    if height * width <= MAX_CELLS:
        return None
    return (
        f"it compares every cell with every other, and the layer has {height} x {width} cells; expected at "
        f"most {MAX_CELLS}; use eigen-cam, or choose a later layer"
    )


@method("kpca-cam", source="Karmani et al. 2024, arXiv:2410.00267", check=too_many_cells)
def kpca_cam(activation: Maps, counted: Maps) -> Saliency:
    """eigen-cam with a kernel that saturates, without a target and without a gradient.

    L = relu(P), P the first component of the centered kernel tanh(a_i.a_j / C + 1) of the cells i and j, a_i
    the C values of a cell minus their means over the cells, with the sign with which it correlates with
    mean_k A.
    """
    return np.maximum(_image_by_image(_component, activation, counted), 0.0)


def _image_by_image(function: Any, *arrays: Any) -> Any:
    """Arrays are computed one image at a time, so that memory does not grow with their number."""
    if not isinstance(arrays[0], np.ndarray):
        return function(*arrays)
    images = range(len(arrays[0]))
    return np.concatenate([function(*(array[n : n + 1] for array in arrays)) for n in images])


def _component(activation: Maps, counted: Maps) -> Saliency:
    difference = deviations(activation, counted)
    number, _, height, width = activation.shape
    kernel = _centered(_kernel(difference, counted), _count_of_cells(counted))
    vector = normalized(dominant_eigenvector(_positive_first(kernel)))
    projection = kernel @ vector
    eigenvalue = np.sum(vector * projection, axis=(1, 2), keepdims=True)
    component = projection / np.sqrt(np.where(eigenvalue > 0, eigenvalue, np.inf))
    return orient(np.reshape(component, (number, height, width)), difference)


def _kernel(difference: Maps, counted: Maps) -> Floats:
    """(N, cells, cells): tanh(a_i.a_j / C + 1) - tanh(1), written without a difference of numbers that may be
    nearly equal. What is the same for all pairs has no effect after the kernel is centered.
    """
    channels = np.sum(np.max(counted, axis=CELLS), axis=1)  # those that count
    columns = flatten_cells(difference)
    product = gram(np.swapaxes(columns, 1, 2))
    curve = np.tanh(product / np.expand_dims(np.maximum(channels, 1.0), (1, 2)))
    return curve * (1 - OFFSET**2) / (1 + OFFSET * curve)


def _count_of_cells(counted: Maps) -> Floats:
    """(N, 1, cells): 1 for cells where a neuron counts."""
    return np.max(flatten_cells(counted), axis=1, keepdims=True)


def _centered(kernel: Floats, counts: Floats) -> Floats:
    """The kernel of vectors whose mean over the cells that count is 0; 0 for the others."""
    column = np.swapaxes(counts, 1, 2)
    share = counts / np.maximum(np.sum(counts, axis=2, keepdims=True), 1.0)
    row_mean = np.sum(kernel * share, axis=2, keepdims=True)
    mean = np.sum(row_mean * np.swapaxes(share, 1, 2), axis=1, keepdims=True)
    return (kernel - row_mean - np.swapaxes(row_mean, 1, 2) + mean) * counts * column


def _positive_first(kernel: Floats) -> Floats:
    """A polynomial x^2 + r x of the kernel, whose dominant eigenvector is that of its largest eigenvalue.

    A sigmoid kernel has negative eigenvalues, too, of which one may be the largest in magnitude: of 20,000
    random layers it was in 95, by a factor of 1.4 at most. With r near the largest magnitude (from the trace of
    the 16th power), the polynomial is right up to a factor of about three.
    """
    unit = normalized(kernel)
    square = gram(unit)
    eighth = gram(gram(square))
    radius = np.sqrt(np.sum(np.square(eighth), axis=(1, 2), keepdims=True)) ** 0.125
    return square + radius * unit
