"""The formulas of papers at the image, in float64, one point of a path, one sample, or one pixel at a time.

A twin takes a model as functions, one image x (C, H, W) and a class, and returns attributions (C, H, W) or a
map (H, W).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onnxcam.arrays import Floats
from tests.methods.support.twins import Model, probability


def largest(attributions: Floats) -> Floats:
    """(C, H, W) -> (H, W): the largest absolute value of the channels."""
    return np.array([[max(abs(pixel)) for pixel in row] for row in attributions.transpose(1, 2, 0)])


def total(attributions: Floats) -> Floats:
    """(C, H, W) -> (H, W): the sum over the channels, with its sign."""
    return np.array([[sum(pixel) for pixel in row] for row in attributions.transpose(1, 2, 0)])


def saliency(model: Model, x: Floats, target: int) -> Floats:
    """Simonyan et al. 2013: dS/dx."""
    return model.gradient(x, target)


def gradient_x_input(model: Model, x: Floats, target: int) -> Floats:
    """Shrikumar et al. 2016: x dS/dx."""
    gradient, attributions = model.gradient(x, target), np.zeros(x.shape)
    for index in np.ndindex(x.shape):
        attributions[index] = x[index] * gradient[index]
    return attributions


def smooth_grad(model: Model, copies: Sequence[Floats], target: int) -> Floats:
    """Smilkov et al. 2017, eq. 2: the mean of the gradients at noisy copies of the image."""
    attributions = np.zeros_like(copies[0], np.float64)
    for copy in copies:
        attributions += model.gradient(copy, target) / len(copies)
    return attributions


def smooth_grad_squared(model: Model, copies: Sequence[Floats], target: int) -> Floats:
    """Hooker et al. 2019: the mean of the squares of the gradients at noisy copies of the image."""
    attributions = np.zeros_like(copies[0], np.float64)
    for copy in copies:
        attributions += model.gradient(copy, target) ** 2 / len(copies)
    return attributions


def var_grad(model: Model, copies: Sequence[Floats], target: int) -> Floats:
    """Adebayo et al. 2018: the variance of the gradients at noisy copies, from their deviations."""
    mean = smooth_grad(model, copies, target)
    attributions = np.zeros_like(copies[0], np.float64)
    for copy in copies:
        attributions += (model.gradient(copy, target) - mean) ** 2 / len(copies)
    return attributions


def integrated_gradients(
    model: Model, x: Floats, target: int, baseline: Floats | float = 0.0, steps: int = 50
) -> Floats:
    """Sundararajan et al. 2017, eq. 1, by Gauss and Legendre's rule on [0, 1]."""
    x = x.astype(np.float64)
    points, weights = np.polynomial.legendre.leggauss(steps)
    average = np.zeros_like(x)
    for point, weight in zip(points, weights, strict=True):
        alpha = (point + 1) / 2
        average += weight / 2 * model.gradient(baseline + alpha * (x - baseline), target)
    return (x - baseline) * average


def blurred(x: Floats, sigma: float) -> Floats:
    """Every channel under a Gaussian that is cut off at 4 sigma, with zeros around the image. The weights add
    up to 1 before the border cuts some of them away.
    """
    if sigma == 0:
        return x.astype(np.float64)
    reach = int(4 * sigma + 0.5)
    norm = sum(np.exp(-0.5 * (d / sigma) ** 2) for d in range(-reach, reach + 1))

    def weights(center: int, size: int) -> Floats:
        distances = [abs(center - pixel) for pixel in range(size)]
        return np.array(
            [np.exp(-0.5 * (d / sigma) ** 2) / norm if d <= reach else 0 for d in distances]
        )

    values = np.zeros(x.shape)
    for i, j in np.ndindex(x.shape[1:]):
        window = np.outer(weights(i, x.shape[1]), weights(j, x.shape[2]))
        values[:, i, j] = [float(np.sum(window * channel)) for channel in x]
    return values


def blur_ig(
    model: Model, x: Floats, target: int, max_sigma: float = 35.0, steps: int = 50
) -> Floats:
    """Xu et al. 2020, eq. 5: the path from the blurred image to the image, as a sum over equal steps of sigma,
    with the gradient at the sharper end of each step.
    """
    attributions = np.zeros(x.shape)
    sharper = blurred(x, 0.0)
    for step in range(steps):
        smoother = blurred(x, (step + 1) * max_sigma / steps)
        attributions += model.gradient(sharper, target) * (sharper - smoother)
        sharper = smoother
    return attributions


def gradient_shap(
    model: Model,
    copies: Sequence[Floats],
    target: int,
    baselines: Sequence[Floats],
    shares: Sequence[float],
) -> Floats:
    """Lundberg and Lee 2017 as expected gradients: (x_s - b_s) times the gradient at b_s + t_s (x_s - b_s)."""
    attributions = np.zeros_like(copies[0], np.float64)
    for copy, baseline, share in zip(copies, baselines, shares, strict=True):
        point = (1 - share) * baseline + share * copy.astype(np.float64)
        attributions += (copy - baseline) * model.gradient(point, target) / len(copies)
    return attributions


def guided_ig(
    model: Model,
    x: Floats,
    target: int,
    baseline: Floats | float = 0.0,
    steps: int = 200,
    fraction: float = 0.25,
    distance: float = 0.02,
) -> Floats:
    """Kapishnikov et al. 2021, algorithm 1, with a path that keeps within a distance from the straight line."""
    image, start = x.astype(np.float64), np.zeros(x.shape) + baseline
    point, attributions = start.copy(), np.zeros(x.shape)
    for step in range(1, steps + 1):
        gradient, last = model.gradient(point, target), point.copy()
        _follow(point, start, image, gradient, step / steps, fraction, distance)
        for index in np.ndindex(x.shape):
            attributions[index] += gradient[index] * (point[index] - last[index])
    return attributions


def _follow(
    point: Floats,
    start: Floats,
    image: Floats,
    gradient: Floats,
    goal: float,
    fraction: float,
    distance: float,
) -> None:
    """Move the point, in place, until its L1 distance to the image is that of the straight line at `goal`."""
    numbers = [index for index in np.ndindex(image.shape) if image[index] != start[index]]
    first, last = (
        start + share * (image - start)
        for share in (max(goal - distance, 0.0), min(goal + distance, 1.0))
    )
    for index in numbers:
        if abs(point[index] - start[index]) < abs(first[index] - start[index]):
            point[index] = first[index]
    goal_distance = (1 - goal) * sum(abs(image[index] - start[index]) for index in numbers)
    waiting = {n for n in numbers if abs(last[n] - start[n]) > abs(point[n] - start[n])}
    while waiting:
        excess = sum(abs(image[index] - point[index]) for index in numbers) - goal_distance
        if excess <= 1e-12:
            return
        ranked = sorted(waiting, key=lambda index: abs(gradient[index]))
        worst = ranked[min(int(fraction * (image.size - 1)), len(ranked) - 1)]
        chosen = [index for index in ranked if abs(gradient[index]) <= abs(gradient[worst])]
        room = sum(abs(last[index] - point[index]) for index in chosen)
        for index in chosen:
            point[index] += min(1.0, excess / room) * (last[index] - point[index])
        waiting -= {*chosen}


def rise(
    model: Model, x: Floats, target: int, masks: Sequence[Floats], kept: float = 0.5
) -> Floats:
    """Petsiuk et al. 2018, eq. 6: 1 / (N p) sum_i p_c(x * M_i) M_i, for masks (H, W)."""
    scores = np.zeros(x.shape[1:])
    for mask in masks:
        scores += probability(model.logits(x * mask), target) * mask
    return scores / (len(masks) * kept)


def rise_mask(cells: Floats, shift: tuple[int, int], height: int, width: int) -> Floats:
    """Section 3.2: a small grid of zeros and ones is enlarged to one cell more than the image, linearly between
    the centers of cells, whose size is rounded up; the part at `shift` is the mask.
    """
    rows, columns = cells.shape
    cell_height, cell_width = -(-height // rows), -(-width // columns)
    mask = np.zeros((height, width))
    for i, j in np.ndindex(height, width):
        y = (i + shift[0] + 0.5) * rows / ((rows + 1) * cell_height) - 0.5
        x = (j + shift[1] + 0.5) * columns / ((columns + 1) * cell_width) - 0.5
        mask[i, j] = interpolated(cells, y, x)
    return mask


def interpolated(cells: Floats, y: float, x: float) -> float:
    """Bilinear; beyond the outermost centers, the nearest cell."""
    value = 0.0
    for row, column in np.ndindex(cells.shape):
        weight = _tent(y, row, cells.shape[0]) * _tent(x, column, cells.shape[1])
        value += weight * float(cells[row, column])
    return value


def _tent(position: float, cell: int, cells: int) -> float:
    clamped = min(max(position, 0.0), cells - 1.0)
    return max(0.0, 1 - abs(clamped - cell))
