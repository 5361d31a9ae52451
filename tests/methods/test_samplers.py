"""Deviates that depend on the seed alone, and moments that do not depend on the chunks."""

# mypy: disallow-untyped-decorators=False

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnxcam.arrays import Array, Floats
from onnxcam.methods import samplers
from onnxcam.methods.samplers import Deviates, Moments, standard_deviation

SHAPE = (3, 4, 5)


def gathered(g: Floats, scores: Floats, cuts: list[int], exponential: bool = False) -> list[Floats]:
    moments = Moments(exponential)
    for part in np.split(np.arange(len(g)), sorted(cuts)):
        if len(part):
            moments.add(g[part], scores[part])
    return list(moments.means())


@settings(derandomize=True, deadline=None, max_examples=40)
@given(st.lists(st.integers(1, 11), max_size=5))
def test_moments_are_means_of_powers(cuts: list[int]) -> None:
    g = np.random.default_rng(1).normal(size=(12, 2, 3, 3))
    found = gathered(g, np.zeros(12), cuts)
    for p, each in enumerate(found, start=1):
        np.testing.assert_allclose(each, np.mean(g**p, axis=0), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("level", [0.0, 1e4, -1e4])
@settings(derandomize=True, deadline=None, max_examples=30)
@given(st.lists(st.integers(1, 11), max_size=5), st.integers(0, 99))
def test_exponential_scores_weigh_the_samples(level: float, cuts: list[int], seed: int) -> None:
    """g_s exp(S_s - max S), to the powers; a score of 10,000 does not overflow."""
    draw = np.random.default_rng(seed)
    g, scores = draw.normal(size=(12, 2, 2)), level + 3 * draw.normal(size=12)
    weighed = g * np.exp(scores - scores.max())[:, None, None]
    for p, each in enumerate(gathered(g, scores, cuts, exponential=True), start=1):
        expected = np.mean(weighed**p, axis=0)
        np.testing.assert_allclose(each, expected, rtol=1e-9, atol=1e-14)


def test_samples_far_below_the_highest_score_vanish() -> None:
    g = np.array([[1.0], [2.0], [4.0]])
    found = gathered(g, np.array([-1e6, 1e6, 0.0]), [1, 2], exponential=True)
    np.testing.assert_allclose(found, [[2 / 3], [4 / 3], [8 / 3]], rtol=1e-15)


def test_moments_are_float64_whatever_the_gradient() -> None:
    g = np.full((2, 1), 1e-12, np.float32)
    found = gathered(g, np.zeros(2), [1])
    assert found[2].dtype == np.float64
    np.testing.assert_allclose(found[2], [1e-36], rtol=1e-6)  # 0 or a denormal in float32


def test_memory_of_moments_does_not_grow() -> None:
    moments = Moments()
    for _ in range(50):
        moments.add(np.ones((4, 10, 10)), np.ones(4))
    assert moments.samples == 200
    assert sum(np.asarray(each).nbytes for each in moments._sums) == 3 * 100 * 8


def drawn(seed: int, count: int, chunk: int, shape: tuple[int, ...] = SHAPE) -> Array:
    deviates = Deviates(seed, shape)
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
    deviates = Deviates(5, SHAPE)
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
    deviates = Deviates(0, SHAPE)
    first = deviates[0:8]
    assert sum(each.nbytes for each in deviates._kept.values()) <= samplers.KEPT
    assert len(deviates._kept) == 3
    np.testing.assert_array_equal(deviates[0:8], first)


def test_the_spread_is_a_part_of_the_range() -> None:
    image = np.array([[[[-2.0, 1.0], [3.0, 0.0]]]], np.float32)
    assert standard_deviation(image, 0.15, None) == pytest.approx(0.75, rel=1e-12)
    assert standard_deviation(image, 0.15, 0.5) == 0.5
    assert standard_deviation(image, 0.15, 0.0) == 0.0
    assert standard_deviation(np.array([-128, 127], np.int8), 1.0, None) == 255.0
