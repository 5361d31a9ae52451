"""Non-negative matrix factorization: planted factors, a slow reference, and refusals."""

from __future__ import annotations

import numpy as np
import pytest

from onnxcam.arrays import Floats
from onnxcam.concept_maps.factorization import factorize, project, relative_error, sums
from onnxcam.errors import SettingError


def planted(cells: int = 60, channels: int = 20, concepts: int = 4) -> tuple[Floats, Floats]:
    """W and H of parts that do not overlap in a fifth of the cells, so that they are unique."""
    draw = np.random.default_rng(5)
    weights = draw.uniform(0, 1, (cells, concepts))
    weights[: cells // 5] = np.eye(concepts)[np.arange(cells // 5) % concepts]
    directions = draw.uniform(0, 1, (concepts, channels)) ** 3
    directions[:, :concepts] *= np.eye(concepts)
    return weights, directions / np.linalg.norm(directions, axis=1, keepdims=True)


def multiplicative_updates(matrix: Floats, concepts: int, seed: int) -> float:
    """||A - W H|| / ||A|| by Lee and Seung 2001, Theorem 1, from random factors."""
    draw = np.random.default_rng(seed)
    weights = draw.uniform(0.1, 1, (len(matrix), concepts))
    directions = draw.uniform(0.1, 1, (concepts, matrix.shape[1]))
    for _ in range(2000):
        directions *= (weights.T @ matrix) / (weights.T @ weights @ directions + 1e-12)
        weights *= (matrix @ directions.T) / (weights @ (directions @ directions.T) + 1e-12)
    return relative_error(matrix, weights, directions)


def test_planted_factors_are_recovered() -> None:
    weights, directions = planted()
    result = factorize(weights @ directions, 4)
    assert result.error < 0.01
    cosines = result.directions @ directions.T
    np.testing.assert_allclose(np.sort(cosines, axis=1)[:, -1], 1.0, atol=2e-3)
    assert sorted(np.argmax(cosines, axis=1)) == [0, 1, 2, 3]


@pytest.mark.parametrize("shape", [(60, 20), (12, 40), (200, 6)], ids=str)
@pytest.mark.parametrize("concepts", [1, 3, 6])
def test_error_is_not_above_that_of_multiplicative_updates(
    shape: tuple[int, int], concepts: int
) -> None:
    matrix = np.maximum(np.random.default_rng(1).normal(0.2, 1, shape), 0)
    reference = min(multiplicative_updates(matrix, concepts, seed) for seed in range(3))
    assert factorize(matrix, concepts).error <= 1.01 * reference


@pytest.mark.parametrize("scale", [1e-30, 1e-12, 1e8, 1e25])
def test_scale_of_the_activations_does_not_matter(scale: float) -> None:
    matrix = np.maximum(np.random.default_rng(2).normal(0, 1, (50, 12)), 0).astype(np.float32)
    plain, scaled = factorize(matrix, 4), factorize((matrix * np.float64(scale)).astype("f4"), 4)
    assert scaled.error == pytest.approx(plain.error, rel=1e-3)
    np.testing.assert_allclose(scaled.directions, plain.directions, atol=0.02)
    np.testing.assert_allclose(scaled.weights / np.float64(scale), plain.weights, atol=0.05)


def test_factors_are_not_negative_and_give_the_error() -> None:
    matrix = np.maximum(np.random.default_rng(2).normal(0, 1, (50, 12)), 0)
    result = factorize(matrix, 5)
    assert result.weights.min() >= 0
    assert result.directions.min() >= 0
    assert result.is_converged
    np.testing.assert_allclose(np.linalg.norm(result.directions, axis=1), 1, rtol=1e-5)
    expected = relative_error(matrix, result.weights, result.directions)
    assert result.error == pytest.approx(expected, rel=1e-4)


def test_largest_part_comes_first() -> None:
    weights, directions = planted()
    scaled = weights * np.array([0.2, 3.0, 1.0, 0.5])
    result = factorize(scaled @ directions, 4)
    parts = sums(result.weights, result.directions)
    assert (np.diff(parts) <= 0).all()
    assert parts.sum() == pytest.approx((scaled @ directions).sum(), rel=0.01)
    assert int(np.argmax(result.directions[0] @ directions.T)) == 1


def test_same_seed_gives_same_factors() -> None:
    matrix = np.maximum(np.random.default_rng(3).normal(0, 1, (80, 30)), 0)
    first, second = factorize(matrix, 8, seed=4), factorize(matrix, 8, seed=4)
    np.testing.assert_array_equal(first.weights, second.weights)
    np.testing.assert_array_equal(first.directions, second.directions)


def test_projection_finds_the_weights_of_known_directions() -> None:
    weights, directions = planted()
    np.testing.assert_allclose(project(weights @ directions, directions), weights, atol=1e-4)


def test_projection_is_the_best_one_that_is_not_negative() -> None:
    """Without a descent direction: each slope is 0, or keeps a weight at 0."""
    draw = np.random.default_rng(6)
    matrix, directions = draw.normal(0, 1, (40, 9)), np.abs(draw.normal(0, 1, (5, 9)))
    weights = project(matrix, directions)
    slope = (weights @ directions - matrix) @ directions.T
    assert np.abs(slope[weights > 0]).max() < 1e-3
    assert slope[weights == 0].min() > -1e-3


@pytest.mark.parametrize("concepts", [0, 13, 100])
def test_too_many_concepts_are_refused(concepts: int) -> None:
    with pytest.raises(SettingError, match=r"concepts: expected 1 to 12, as the layer has 12"):
        factorize(np.ones((50, 12)), concepts)


def test_activations_without_a_value_are_refused() -> None:
    with pytest.raises(SettingError, match="0 everywhere; choose another layer"):
        factorize(np.zeros((50, 12)), 2)


def test_cells_of_zeros_stay_without_concepts() -> None:
    weights, directions = planted()
    matrix = np.concatenate([np.zeros((30, 20)), weights @ directions])
    assert not factorize(matrix, 4).weights[:30].any()
