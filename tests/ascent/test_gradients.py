"""Penalties, bases and movements: values by hand, gradients against finite differences."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from onnxcam.arrays import Floats
from onnxcam.ascent.basis import Pixels, Waves
from onnxcam.ascent.movements import move
from onnxcam.ascent.penalties import power_penalty, variation_penalty

DRAW = np.random.Generator(np.random.SFC64(5))
X = DRAW.uniform(-1, 1, (2, 3, 5, 6))
STEP = 1e-6


def differences(function: Callable[[Floats], Floats], x: Floats) -> Floats:
    """The gradient of the sum of a function's values, by central differences."""
    gradient = np.zeros_like(x)
    for index in np.ndindex(*x.shape):
        shift = np.zeros_like(x)
        shift[index] = STEP
        gradient[index] = np.sum(function(x + shift) - function(x - shift)) / (2 * STEP)
    return gradient


@pytest.mark.parametrize("power", [1.5, 2.0, 6.0])
def test_power_penalty_equals_loop_and_differences(power: float) -> None:
    value, gradient = power_penalty(X, power)
    expected = [sum(abs(pixel) ** power for pixel in image.ravel()) / 30 for image in X]
    np.testing.assert_allclose(value, expected)
    numeric = differences(lambda x: power_penalty(x, power)[0], X)
    np.testing.assert_allclose(gradient, numeric, atol=1e-7)


@pytest.mark.parametrize("beta", [1.0, 2.0, 3.0])
def test_variation_penalty_equals_loop_and_differences(beta: float) -> None:
    value, gradient = variation_penalty(X, beta)
    expected = np.zeros(2)
    for n, c, i, j in np.ndindex(*X.shape):
        right = X[n, c, i, j + 1] - X[n, c, i, j] if j < 5 else 0.0
        below = X[n, c, i + 1, j] - X[n, c, i, j] if i < 4 else 0.0
        expected[n] += (right**2 + below**2) ** (beta / 2) / 30
    np.testing.assert_allclose(value, expected)
    numeric = differences(lambda x: variation_penalty(x, beta)[0], X)
    np.testing.assert_allclose(gradient, numeric, atol=1e-7)


def test_variation_of_constant_image_has_gradient_zero() -> None:
    value, gradient = variation_penalty(np.full((1, 3, 4, 4), 0.3), 1.0)
    assert value == [0.0]
    assert not gradient.any()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(4, 6), (5, 7), (6, 5), (1, 4)])
def test_gradient_of_waves_equals_differences(channels: int, size: tuple[int, int]) -> None:
    waves = Waves(channels, size)
    parameters = waves.start([1, 2], 0.3)
    weights = DRAW.standard_normal((2, channels, *size))
    actual = waves.gradient(waves.image(parameters), weights)
    numeric = differences(lambda p: np.sum(weights * waves.image(p), axis=(1, 2, 3)), parameters)
    np.testing.assert_allclose(actual, numeric, atol=1e-8)


def test_images_of_waves_are_within_range_and_start_nearly_gray() -> None:
    waves = Waves(3, (32, 32))
    assert np.abs(waves.image(waves.start([0], 50.0))).max() <= 1
    assert np.abs(waves.image(waves.start([0], 0.01))).max() < 0.2


@pytest.mark.parametrize("basis", [Pixels(3, (16, 16)), Waves(3, (16, 16))])
def test_start_of_seed_does_not_depend_on_other_seeds(basis: Pixels | Waves) -> None:
    both, single = basis.start([3, 4], 0.1), basis.start([4], 0.1)
    np.testing.assert_array_equal(both[1:], single)
    assert not np.array_equal(both[0], both[1])


@pytest.mark.parametrize("basis", [Pixels(1, (32, 32)), Waves(1, (32, 32))])
def test_blur_keeps_mean_and_removes_fine_waves(basis: Pixels | Waves) -> None:
    coarse = np.cos(np.pi * (np.arange(32) + 0.5) / 32)[:, None] * np.ones(32)
    fine = np.tile([[0.2, -0.2]], (32, 16))

    def parameters(image: Floats) -> Floats:
        if isinstance(basis, Pixels):
            return image[None, None]
        waves = np.fft.rfft2(np.arctanh(image), norm="ortho") / basis._scales
        return np.stack([waves.real, waves.imag], axis=-1)[None, None]

    blurred = basis.image(basis.blur(parameters(0.3 + 0.2 * coarse + fine), 1.0))[0, 0]
    assert blurred.mean() == pytest.approx(0.3, abs=0.02)
    inside = blurred[:, 4:-4]  # of the edges, where the image is continued
    assert np.abs(np.diff(inside, axis=1)).max() < 0.02


def test_pixels_are_clipped_after_steps() -> None:
    assert np.abs(Pixels(3, (4, 4)).project(3 * X)).max() == 1


def test_movement_pulls_gradient_back() -> None:
    moved, pull_back = move(X, [7, 8], 3, jitter=2, zoom=0.2)
    weights = DRAW.standard_normal(X.shape)
    np.testing.assert_allclose(np.sum(weights * moved), np.sum(pull_back(weights) * X))
    assert not np.allclose(moved, X)


def test_movement_without_zoom_is_a_roll() -> None:
    rolls = [np.roll(X[0], (down, right), (1, 2)) for down in (-1, 0, 1) for right in (-1, 0, 1)]
    for step in range(6):
        moved, _ = move(X[:1], [7], step, jitter=1, zoom=0.0)
        assert any(np.allclose(moved[0], roll) for roll in rolls)


def test_movement_depends_on_seed_and_step_alone() -> None:
    both, _ = move(X, [7, 8], 3, jitter=2, zoom=0.2)
    single, _ = move(X[1:], [8], 3, jitter=2, zoom=0.2)
    other, _ = move(X[1:], [8], 4, jitter=2, zoom=0.2)
    np.testing.assert_allclose(both[1:], single, atol=1e-12)
    assert not np.allclose(single, other)
