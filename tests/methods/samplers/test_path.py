"""The points of a path and their weights integrate polynomials exactly."""

import numpy as np
import pytest

from onnxcam.methods.samplers.path import gauss_legendre


@pytest.mark.parametrize("steps", [1, 2, 5, 50])
def test_quadrature_is_exact_for_polynomials(steps: int) -> None:
    points, weights = gauss_legendre(steps)
    assert ((points > 0) & (points < 1)).all()
    for power in range(2 * steps):
        assert np.sum(weights * points**power) == pytest.approx(1 / (power + 1), rel=1e-10)
