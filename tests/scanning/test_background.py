"""Empirical p-values: against counting one by one, with ties, and leave-one-out."""

import numpy as np
import pytest
from numpy.typing import NDArray

from onnxcam.errors import SettingError
from onnxcam.scanning import background as module
from onnxcam.scanning.background import TAILS, Activations, Background, Tail
from onnxcam.scanning.search import histogram, largest_rank

Values = NDArray[np.float32]


def slow_p_values(others: Values, values: Values, tail: Tail) -> NDArray[np.float64]:
    """(1 + #{others at least as extreme}) / (B + 1), node by node."""
    p_values = []
    for node, value in enumerate(values):
        larger = (1 + sum(other >= value for other in others[:, node])) / (len(others) + 1)
        smaller = (1 + sum(other <= value for other in others[:, node])) / (len(others) + 1)
        both = min(1.0, 2 * min(larger, smaller))
        p_values.append({"right": larger, "left": smaller, "both": both}[tail])
    return np.array(p_values)


def tied(count: int, nodes: int, seed: int = 0) -> Values:
    return np.random.default_rng(seed).integers(0, 5, (count, nodes)).astype(np.float32)


def make(values: Values, tail: Tail) -> Background:
    return Background(np.ascontiguousarray(values.T), tail)


@pytest.fixture(params=[1 << 21, 7], ids=["one part", "many parts"])
def _parts(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK", request.param)


@pytest.mark.usefixtures("_parts")
@pytest.mark.parametrize("tail", TAILS)
@pytest.mark.parametrize("count", [1, 2, 3, 8, 21])
def test_p_values_of_other_images_equal_counting(tail: Tail, count: int) -> None:
    values, images = tied(count, 15), tied(4, 15, seed=1) * 1.5 - 1
    background = make(values, tail)
    p_values = background.ranks(images) / background.levels
    for row, image in zip(p_values, images, strict=True):
        assert row == pytest.approx(slow_p_values(values, image, tail))


@pytest.mark.usefixtures("_parts")
@pytest.mark.parametrize("tail", TAILS)
@pytest.mark.parametrize("count", [1, 2, 3, 8, 21])
def test_p_values_of_members_leave_themselves_out(tail: Tail, count: int) -> None:
    values = tied(count, 15)
    background = make(values, tail)
    ranks = background.ranks(values, is_member=True)
    for row, image in enumerate(values):
        expected = slow_p_values(np.delete(values, row, axis=0), image, tail)
        assert ranks[row] / count == pytest.approx(expected)
    assert (background.histograms == histogram(ranks, count)).all()


@pytest.mark.usefixtures("_parts")
@pytest.mark.parametrize("tail", TAILS)
@pytest.mark.parametrize("count", [1, 2, 3, 8, 21])
@pytest.mark.parametrize("alpha_max", [0.1, 0.5, 0.99])
def test_ranks_of_members_count_an_image_that_joins(
    tail: Tail, count: int, alpha_max: float
) -> None:
    values = tied(count, 40)
    background = Background(np.ascontiguousarray(values.T), tail, alpha_max)
    for image in (*tied(3, 40, seed=1), *tied(3, 40, seed=2) * 1.5 - 1):
        ranks = make(np.stack([*values, image]), tail).ranks(values, is_member=True)
        last = largest_rank(alpha_max, count + 1)
        expected = histogram(ranks, count + 1)[:, :last]
        assert background.histograms_with(image).tolist() == expected.tolist()


def test_zeros_of_a_relu_are_not_unusual() -> None:
    values = np.zeros((9, 3), np.float32)
    values[4, 1] = 2.0
    ranks = make(values, "right").ranks(np.array([[0.0, 0.0, 1.0]]))
    assert ranks.tolist() == [[10, 10, 1]]


def test_histograms_count_all_nodes() -> None:
    background = make(tied(6, 40), "right")
    assert background.histograms.sum(axis=1).tolist() == [40] * 6


def test_activations_grow_beyond_the_expected_number() -> None:
    activations = Activations(6, expected=2)
    for number in range(5):
        activations.append(np.full((2, 1, 3), number))
    assert activations.columns.shape == (6, 5)
    assert activations.columns[3].tolist() == [0, 1, 2, 3, 4]


def test_unknown_tail_is_refused() -> None:
    with pytest.raises(SettingError, match="expected right, left, both"):
        Background(np.zeros((2, 3), np.float32), "upper")
