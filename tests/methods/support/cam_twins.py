"""More formulas of papers at a layer, in float64, one cell at a time.

A twin takes a model as functions, one image x (C, H, W) and a class, and returns the map (h, w).
"""

from __future__ import annotations

import numpy as np

from onnxcam.arrays import Floats
from tests.methods.support.twins import Model


def xgrad_cam(model: Model, x: Floats, target: int) -> Floats:
    """Fu et al. 2020: w_k = sum_ij A_ij / (sum_ab A_ab) g_ij."""
    activation = model.features(x)
    g = model.head_gradient(activation, target)
    channels, height, width = activation.shape
    saliency = np.zeros((height, width))
    for k in range(channels):
        mass = sum(activation[k, i, j] for i, j in np.ndindex(height, width))
        if mass == 0:
            continue
        weight = 0.0
        for i, j in np.ndindex(height, width):
            weight += activation[k, i, j] / mass * g[k, i, j]
        saliency += weight * activation[k]
    return np.maximum(saliency, 0.0)


def hires_cam(model: Model, x: Floats, target: int) -> Floats:
    """Draelos and Carin 2020: the sum over k of g_k A_k in each cell."""
    return np.maximum(_sum_of_products(model, x, target, lowest=-np.inf), 0.0)


def elementwise_grad_cam(model: Model, x: Floats, target: int) -> Floats:
    """Pillai and Pirsiavash 2021: the positive products only."""
    return _sum_of_products(model, x, target, lowest=0.0)


def _sum_of_products(model: Model, x: Floats, target: int, lowest: float) -> Floats:
    activation = model.features(x)
    g = model.head_gradient(activation, target)
    channels, height, width = activation.shape
    sums = np.zeros((height, width))
    for i, j in np.ndindex(height, width):
        for k in range(channels):
            sums[i, j] += max(lowest, g[k, i, j] * activation[k, i, j])
    return sums


def eigen_cam(model: Model, x: Floats, target: int) -> Floats:
    """Muhammad and Yeasin 2020, with centered cells: their projection onto the first principal axis."""
    return np.maximum(first_component(model.features(x)), 0.0)


def eigen_grad_cam(model: Model, x: Floats, target: int) -> Floats:
    """The same of gradient times activation; nothing if no cell that stands out has evidence for the class."""
    activation = model.features(x)
    product = activation * model.head_gradient(activation, target)
    saliency = np.maximum(first_component(product), 0.0)
    marked = [cell for cell in np.ndindex(saliency.shape) if saliency[cell] > 0]
    has_evidence = any(product[:, i, j].sum() > 0 for i, j in marked)
    return saliency if has_evidence else np.zeros(saliency.shape)


def first_component(maps: Floats) -> Floats:
    """Of the cells (C, h, w), by the eigenvectors of the covariance of the feature maps."""
    cells = centered_cells(maps)
    covariance = sum(np.outer(cell, cell) for cell in cells)
    _, axes = np.linalg.eigh(covariance)
    return oriented(np.array([cell @ axes[:, -1] for cell in cells]), maps)


def centered_cells(maps: Floats) -> list[Floats]:
    """The C values of every cell, minus their means over the cells."""
    cells = [maps[:, i, j] for i, j in np.ndindex(maps.shape[1:])]
    mean = sum(cells) / len(cells)
    return [cell - mean for cell in cells]


def oriented(component: Floats, maps: Floats) -> Floats:
    """(h, w): the component with the sign with which it correlates with the mean of the feature maps."""
    mean = [float(np.mean(maps[:, i, j])) for i, j in np.ndindex(maps.shape[1:])]
    sign = np.sign(np.corrcoef(component, mean)[0, 1])
    return (sign * component).reshape(maps.shape[1:])


def fem(model: Model, x: Floats, target: int, threshold: float = 2.0) -> Floats:
    """Fuad et al. 2020: a feature map's mean is its weight, in cells where it is unusually high."""
    activation = model.features(x)
    channels, height, width = activation.shape
    saliency = np.zeros((height, width))
    for k in range(channels):
        values = [float(value) for value in activation[k].ravel()]
        mean = sum(values) / len(values)
        sigma = np.sqrt(sum((value - mean) ** 2 for value in values) / len(values))
        for i, j in np.ndindex(height, width):
            if activation[k, i, j] >= mean + threshold * sigma:
                saliency[i, j] += mean
    return np.maximum(saliency, 0.0)


def kpca_cam(model: Model, x: Floats, target: int) -> Floats:
    """Karmani et al. 2024: the first component of a kernel PCA, with the sigmoid kernel tanh(x.y / C + 1)."""
    return np.maximum(first_kernel_component(model.features(x)), 0.0)


def first_kernel_component(maps: Floats) -> Floats:
    """Of the cells (C, h, w), by the eigenvectors of the centered kernel."""
    kernel = centered_kernel(maps)
    eigenvalues, vectors = np.linalg.eigh(kernel)
    return oriented(vectors[:, -1] * np.sqrt(eigenvalues[-1]), maps)


def centered_kernel(maps: Floats) -> Floats:
    """(cells, cells)."""
    cells = centered_cells(maps)
    kernel = np.array([[np.tanh(a @ b / len(a) + 1) for b in cells] for a in cells])
    centering = np.eye(len(cells)) - np.full((len(cells), len(cells)), 1 / len(cells))
    return centering @ kernel @ centering
