"""Deviates that depend on the seed alone."""

import numpy as np
import pytest

from onnxcam.arrays import Array, Floats
from onnxcam.methods.samplers import gaussian as samplers
from onnxcam.methods.samplers.gaussian import GaussianNoise, standard_deviation

SHAPE = (3, 4, 5)


def drawn(seed: int, count: int, chunk: int, shape: tuple[int, ...] = SHAPE) -> Array:
    deviates = GaussianNoise(seed, shape)
    parts = [slice(i, min(i + chunk, count)) for i in range(0, count, chunk)]
    return np.concatenate([deviates[part] for part in parts])


def test_deviates_do_not_depend_on_the_chunks() -> None:
    whole = drawn(5, 10, 10)
    assert whole.shape == (10, *SHAPE)
    assert whole.dtype == np.float32
    for chunk in (1, 3, 7):
        np.testing.assert_array_equal(drawn(5, 10, chunk), whole)
    np.testing.assert_array_equal(drawn(5, 4, 2), whole[:4])


def test_deviates_are_the_same_for_every_picture() -> None:
    deviates = GaussianNoise(5, SHAPE)
    np.testing.assert_array_equal(deviates[0:4], deviates[0:4])


def test_seeds_and_samples_differ() -> None:
    first, second = drawn(0, 3, 3), drawn(1, 3, 3)
    assert len({each.tobytes() for each in (*first, *second)}) == 6


def test_deviates_are_standard_normal() -> None:
    many = drawn(0, 20, 20, (100, 100)).astype(np.float64)
    assert abs(many.mean()) < 0.01  # 4.5 standard errors of 200,000 draws
    assert abs(many.std() - 1) < 0.01
    neighbours: Floats = np.asarray(np.corrcoef(many.reshape(20, -1)))[np.triu_indices(20, 1)]
    assert np.abs(neighbours).max() < 0.05


def test_only_so_many_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samplers, "KEPT", 3 * 60 * 4)  # three arrays of SHAPE
    deviates = GaussianNoise(0, SHAPE)
    first = deviates[0:8]
    assert deviates._kept.nbytes <= samplers.CACHE_BYTES
    assert len(deviates._kept) == 3
    np.testing.assert_array_equal(deviates[0:8], first)


def test_the_spread_is_a_part_of_the_range() -> None:
    image = np.array([[[[-2.0, 1.0], [3.0, 0.0]]]], np.float32)
    assert standard_deviation(image, 0.15, None) == pytest.approx(0.75, rel=1e-12)
    assert standard_deviation(image, 0.15, 0.5) == 0.5
    assert standard_deviation(image, 0.15, 0.0) == 0.0
    assert standard_deviation(np.array([-128, 127], np.int8), 1.0, None) == 255.0
