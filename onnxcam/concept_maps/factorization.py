"""Non-negative matrix factorization of activations: A ~ W H, all three without negative values.

A (cells, channels) has the cells of all images, H (concepts, channels) the directions, each of length 1, and
W (cells, concepts) how much of each direction is in each cell.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from onnxcam.arrays import Floats
from onnxcam.errors import SettingError

SWEEPS = 4  # updates of one factor between two products with A, which take the time
MAX_ITERATIONS = 400
TOLERANCE = 1e-5  # the relative error falls by less: converged
PROJECTION_SWEEPS = 200
SMALLEST = (
    1e-6  # activations below, or above its inverse, are scaled, as their squares are no float32
)
_TINY = 1e-12


class Factorization(NamedTuple):
    """A ~ W H, the concepts with the largest part of A first.

    weights: (cells, concepts) float32, W.
    directions: (concepts, channels) float32, H; the rows have length 1.
    error: ||A - W H|| / ||A||, Frobenius norms.
    iterations: of the best start.
    is_converged: whether the error had stopped falling.
    """

    weights: NDArray[np.float32]
    directions: NDArray[np.float32]
    error: float
    iterations: int
    is_converged: bool


def factorize(
    activations: Floats, concepts: int, *, seed: int = 0, starts: int = 3
) -> Factorization:
    """The best of several starts: one from the singular vectors of A (Boutsidis and Gallopoulos 2008), the
    others random. Each is improved by block coordinate descent ("HALS", Cichocki and Phan 2009, Algorithm 2,
    with several sweeps per product as in Gillis and Glineur 2012).

    SettingError for more concepts than cells or channels, and for activations that are all 0.
    """
    cells, channels = activations.shape
    if not 1 <= concepts <= min(cells, channels):
        raise SettingError(
            f"{concepts} concepts: expected 1 to {min(cells, channels)}, as the layer has {channels} channels "
            f"and the images have {cells} cells"
        )
    if not activations.any():
        raise SettingError("the activations are 0 everywhere; choose another layer")
    draw = np.random.default_rng(seed)
    largest = float(activations.max())
    scale = 1.0 if SMALLEST < largest < 1 / SMALLEST else largest
    matrix = np.ascontiguousarray(activations if scale == 1 else activations / scale, np.float32)
    first = _singular_start(matrix, concepts)
    others = (_random_start(matrix, concepts, draw) for _ in range(starts - 1))
    results = [_improve(matrix, directions) for directions in (first, *others)]
    best = min(results, key=lambda result: result.error)
    return _in_order(best._replace(weights=best.weights * np.float32(scale)))


def project(activations: Floats, directions: Floats) -> NDArray[np.float32]:
    """(cells, concepts): the W >= 0 that brings W H nearest to other activations (cells, channels)."""
    basis = directions.astype(np.float64)
    products = activations.astype(np.float64) @ basis.T
    weights = np.maximum(products, 0.0)
    _sweep(weights, products, basis @ basis.T, PROJECTION_SWEEPS)
    return weights.astype(np.float32)


def sums(weights: Floats, directions: Floats) -> Floats:
    """(concepts,): the sum over cells and channels of what each concept adds to W H."""
    cells = weights.sum(axis=0, dtype=np.float64)
    return np.asarray(cells * directions.sum(axis=1, dtype=np.float64))


def relative_error(activations: Floats, weights: Floats, directions: Floats) -> float:
    """||A - W H|| / ||A||."""
    rest = activations - weights @ directions
    return float(np.linalg.norm(rest) / max(float(np.linalg.norm(activations)), _TINY))


def _improve(matrix: Floats, directions: Floats) -> Factorization:
    """Update W and H in turns until the error stops falling."""
    square = float(np.sum(np.square(matrix), dtype=np.float64))
    weights = np.maximum(matrix @ directions.T, 0).astype(np.float64)
    error, iterations, is_converged = np.inf, 0, False
    while iterations < MAX_ITERATIONS and not is_converged:
        iterations += 1
        _sweep(weights, _product(matrix, directions.T), directions @ directions.T, SWEEPS)
        gram, products = weights.T @ weights, _product(matrix.T, weights)
        columns = directions.T.copy()
        _sweep(columns, products, gram, SWEEPS)
        directions = columns.T
        rest = square - 2 * np.sum(products * columns) + np.sum(gram * (directions @ directions.T))
        previous, error = error, float(np.sqrt(max(rest, 0.0) / square))
        is_converged = previous - error < TOLERANCE * previous
    return Factorization(
        weights.astype(np.float32),
        directions.astype(np.float32),
        error,
        iterations,
        is_converged,
    )


def _product(matrix: Floats, factor: Floats) -> Floats:
    """In float32, where the time goes, for a float64 result."""
    return (matrix @ factor.astype(np.float32)).astype(np.float64)


def _sweep(factor: Floats, products: Floats, gram: Floats, sweeps: int) -> None:
    """Update each column of a factor, in place: the minimum over it, with the others held."""
    for _ in range(sweeps):
        for k in range(factor.shape[1]):
            size = gram[k, k]
            if size > _TINY:
                step = (products[:, k] - factor @ gram[:, k]) / size
                np.maximum(factor[:, k] + step, 0.0, out=factor[:, k])


def _singular_start(matrix: Floats, concepts: int) -> Floats:
    """(concepts, channels): the parts of one sign of the singular vectors, the larger one of each; the mean of
    A in the place of zeros, which would never change.
    """
    _, vectors = np.linalg.eigh(matrix.astype(np.float64).T @ matrix)
    leading = vectors[:, ::-1][:, :concepts].T
    cells = _product(matrix, leading.T).T
    rows = []
    for vector, cell in zip(leading, cells, strict=True):
        parts = [(np.maximum(sign * vector, 0), np.maximum(sign * cell, 0)) for sign in (1, -1)]
        strengths = [np.linalg.norm(row) * np.linalg.norm(own) for row, own in parts]
        rows.append(parts[int(np.argmax(strengths))][0])
    start = np.array(rows)
    return _unit(np.where(start > 0, start, start.mean() / 100))


def _random_start(matrix: Floats, concepts: int, draw: np.random.Generator) -> Floats:
    """(concepts, channels): cells of A, chosen by their size."""
    sizes = np.square(matrix.astype(np.float64)).sum(axis=1)
    usable = int(np.count_nonzero(sizes))
    rows = draw.choice(len(sizes), concepts, replace=usable < concepts, p=sizes / sizes.sum())
    start = matrix[rows].astype(np.float64)
    return _unit(start + start.mean() / 100)


def _unit(rows: Floats) -> Floats:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), _TINY)


def _in_order(result: Factorization) -> Factorization:
    """Rows of H of length 1, and the concepts with the largest sum of activations first."""
    lengths = np.linalg.norm(result.directions, axis=1)
    weights, directions = result.weights * lengths, _unit(result.directions)
    order = np.argsort(-sums(weights, directions), kind="stable")
    return result._replace(
        weights=np.ascontiguousarray(weights[:, order]),
        directions=np.ascontiguousarray(directions[order]),
    )
