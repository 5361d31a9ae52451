"""`gradient-shap` adds up to the mean difference of scores of noisy copies and baselines."""

from typing import Any

import numpy as np
import pytest

from onnxcam.arrays import Floats
from onnxcam.errors import SettingError
from onnxcam.methods.samplers.random_path import random_shares
from tests.explain.support.explained import noisy
from tests.methods.support.compare import (
    NETS,
    TARGET,
    X,
    assert_attributions,
    assert_close,
    explain,
    stack,
)
from tests.methods.support.image_twins import gradient_shap
from tests.support.layered_nets import CURVED, LayeredNet
from tests.support.nets import random_images

NAME = "gradient-shap"
STARTS = random_images(3, seed=8)


def copies_of(x: Floats, noise: float, samples: int, seed: int) -> Floats:
    return (
        noisy(x, noise * (x.max() - x.min()), samples, seed) if noise else np.stack([x] * samples)
    )


def twin(
    net: LayeredNet,
    x: Floats,
    target: int,
    baselines: Any = (0.0,),
    noise: float = 0.05,
    samples: int = 50,
    seed: int = 0,
) -> Floats:
    """With the numbers that the method draws."""
    shares, numbers = random_shares(samples, len(baselines), seed)
    starts = [np.zeros(x.shape) + baselines[number] for number in numbers]
    return gradient_shap(net, [*copies_of(x, noise, samples, seed)], target, starts, [*shares])


@pytest.mark.parametrize("net", NETS)
def test_gradient_shap_equals_twin(net: str) -> None:
    assert_attributions(explain(NAME, NETS[net]), stack(twin, NETS[net]))
    other = explain(NAME, NETS[net], baseline=STARTS, noise=0.2, samples=9, seed=3)
    assert_close(other.attributions, stack(twin, NETS[net], STARTS, 0.2, 9, 3))


def test_gap_is_that_to_the_scores_of_the_samples() -> None:
    """Of the baselines that were drawn, and of the first fourth of the copies."""
    noise, samples, seed = 0.3, 12, 5
    explanation = explain(NAME, CURVED, baseline=STARTS, noise=noise, samples=samples, seed=seed)
    _, numbers = random_shares(samples, len(STARTS), seed)
    low = np.mean([CURVED.logits(STARTS[number])[TARGET] for number in numbers])
    for x, facts in zip(X, explanation.facts, strict=True):
        copies = [*copies_of(x, noise, samples, seed)][: samples // 4]
        high = np.mean([CURVED.logits(copy)[TARGET] for copy in copies])
        total = twin(CURVED, x, TARGET, STARTS, noise, samples, seed).sum()
        assert facts["baseline_score"] == pytest.approx(low, rel=1e-4)
        gap = abs(total - (high - low)) / abs(high - low)
        assert facts["completeness_gap"] == pytest.approx(gap, rel=0.01)


@pytest.mark.parametrize("noise", [0.0, 0.05])
def test_completeness_gap_shrinks_with_samples(noise: float) -> None:
    few, many = (
        sum(
            facts["completeness_gap"]
            for facts in explain(NAME, CURVED, noise=noise, samples=n).facts
        )
        for n in (8, 2000)
    )
    assert many < 0.2 * few


def test_expectation_without_noise_is_integrated_gradients() -> None:
    actual = np.asarray(explain(NAME, CURVED, noise=0.0, samples=400).attributions)
    expected = np.asarray(explain("integrated-gradients", CURVED).attributions)
    assert np.abs(actual - expected).max() < 0.002 * np.abs(expected).max()


def test_attributions_do_not_depend_on_chunks() -> None:
    expected = explain(NAME, CURVED, samples=11, baseline=STARTS)
    for chunk in (1, 3, 11):
        actual = explain(NAME, CURVED, samples=11, baseline=STARTS, chunk=chunk)
        assert_close(actual.attributions, np.asarray(expected.attributions))


def test_points_are_spread_evenly_and_take_all_baselines() -> None:
    shares, numbers = random_shares(1000, 3, 0)
    assert (np.floor(shares * 1000) == np.arange(1000)).all()
    assert np.std(shares * 1000 % 1) == pytest.approx(np.sqrt(1 / 12), rel=0.05)
    assert (np.bincount(numbers) > 250).all()
    assert not np.array_equal(random_shares(1000, 3, 1)[0], shares)


def test_baselines_of_another_size_are_refused() -> None:
    with pytest.raises(SettingError, match=r"its shape is \(3, 4, 4\), that of the image"):
        explain(NAME, CURVED, baseline=np.zeros((2, 3, 4, 4)))
