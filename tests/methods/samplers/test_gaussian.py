"""Gaussian noise depends only on the seed."""

import numpy as np
import pytest

from onnxcam.arrays import Array, Floats
from onnxcam.methods.samplers import gaussian as samplers
from onnxcam.methods.samplers.gaussian import GaussianNoise, standard_deviation

SHAPE = (3, 4, 5)


def draw_noise(seed: int, count: int, chunk: int, shape: tuple[int, ...] = SHAPE) -> Array:
    noise = GaussianNoise(seed, shape)
    chunks = [slice(i, min(i + chunk, count)) for i in range(0, count, chunk)]
    return np.concatenate([noise[samples] for samples in chunks])


def test_noise_does_not_depend_on_chunks() -> None:
    expected = draw_noise(5, 10, 10)
    assert expected.shape == (10, *SHAPE)
    assert expected.dtype == np.float32
    for chunk in (1, 3, 7):
        np.testing.assert_array_equal(draw_noise(5, 10, chunk), expected)
    np.testing.assert_array_equal(draw_noise(5, 4, 2), expected[:4])


def test_noise_is_the_same_for_every_image() -> None:
    noise = GaussianNoise(5, SHAPE)
    np.testing.assert_array_equal(noise[0:4], noise[0:4])


def test_seeds_and_samples_differ() -> None:
    first, second = draw_noise(0, 3, 3), draw_noise(1, 3, 3)
    assert len({noise.tobytes() for noise in (*first, *second)}) == 6


def test_noise_is_standard_normal() -> None:
    noise = draw_noise(0, 20, 20, (100, 100)).astype(np.float64)
    assert abs(noise.mean()) < 0.01  # 4.5 standard errors of 200,000 draws
    assert abs(noise.std() - 1) < 0.01
    correlations: Floats = np.asarray(np.corrcoef(noise.reshape(20, -1)))[np.triu_indices(20, 1)]
    assert np.abs(correlations).max() < 0.05


def test_stored_noise_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samplers, "CACHE_BYTES", 3 * 60 * 4)  # three arrays of SHAPE
    noise = GaussianNoise(0, SHAPE)
    first = noise[0:8]
    assert noise._stored.nbytes <= samplers.CACHE_BYTES
    assert len(noise._stored) == 3
    np.testing.assert_array_equal(noise[0:8], first)


def test_standard_deviation_is_a_fraction_of_the_range() -> None:
    image = np.array([[[[-2.0, 1.0], [3.0, 0.0]]]], np.float32)
    assert standard_deviation(image, 0.15, None) == np.float32(0.15) * np.float32(5)
    assert standard_deviation(image, 0.15, 0.5) == 0.5
    assert standard_deviation(image, 0.15, 0.0) == 0.0
    assert standard_deviation(np.array([-128, 127], np.int8), 1.0, None) == 255.0
