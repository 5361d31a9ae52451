"""The Gaussian of patches, and its conditional draws."""

import numpy as np
import pytest

from onnxcam.arrays import Floats
from onnxcam.methods.samplers.patches import PATCHES, Conditional, PatchGaussian, cut_patches
from tests.methods.support.perturbation_twins import conditional_gaussian

SIZE = 2 * 4 * 4
HIDDEN = np.pad(np.ones((2, 2, 2), bool), [(0, 0), (1, 1), (1, 1)]).ravel()


def correlated_patches(count: int = 300) -> Floats:
    """(count, 2, 4, 4): neighbors and channels depend on each other."""
    draw = np.random.default_rng(0)
    mixture = draw.normal(size=(SIZE, SIZE)) / 4
    vectors = 0.3 + draw.normal(size=(count, SIZE)) @ mixture
    return vectors.reshape(count, 2, 4, 4)


def fitted() -> tuple[PatchGaussian, Floats, Floats]:
    """The Gaussian, its patches (P, d), and the rest of another patch."""
    patches = correlated_patches()
    rest = correlated_patches(301)[-1].ravel()[~HIDDEN]
    return PatchGaussian.fit(patches), patches.reshape(len(patches), -1), rest


def test_mean_of_draws_is_that_of_twin() -> None:
    gaussian, patches, rest = fitted()
    mean, _ = conditional_gaussian(patches, HIDDEN.tolist(), rest, gaussian.ridge)
    zeros = np.zeros((1, len(patches))), np.zeros((1, SIZE))
    drawn = Conditional(gaussian, HIDDEN).draw(rest, *zeros)
    np.testing.assert_allclose(drawn[0], mean, atol=1e-4)
    assert np.abs(mean - patches.mean(axis=0)[HIDDEN]).max() > 0.1, "the rest says nothing"


def test_covariance_of_draws_is_that_of_twin() -> None:
    """Exactly: draws are linear in the random numbers."""
    gaussian, patches, rest = fitted()
    _, covariance = conditional_gaussian(patches, HIDDEN.tolist(), rest, gaussian.ridge)
    count = len(patches)
    units = np.eye(count + SIZE)
    conditional = Conditional(gaussian, HIDDEN)
    zero = conditional.draw(rest, np.zeros((1, count)), np.zeros((1, SIZE)))
    linear = conditional.draw(rest, units[:, :count], units[:, count:]) - zero
    np.testing.assert_allclose(linear.T @ linear, covariance, atol=1e-4 * np.abs(covariance).max())


def test_random_draws_have_mean_and_covariance_of_twin() -> None:
    gaussian, patches, rest = fitted()
    mean, covariance = conditional_gaussian(patches, HIDDEN.tolist(), rest, gaussian.ridge)
    draw = np.random.default_rng(1)
    numbers = draw.normal(size=(10_000, len(patches))), draw.normal(size=(10_000, SIZE))
    drawn = Conditional(gaussian, HIDDEN).draw(rest, *numbers)
    spread = np.sqrt(np.diag(covariance))
    assert (np.abs(drawn.mean(axis=0) - mean) < 5 * spread / np.sqrt(10_000) + 1e-4).all()
    np.testing.assert_allclose(np.cov(drawn.T), covariance, atol=0.08 * covariance.max())


@pytest.mark.parametrize("everything", [True, False])
def test_complete_patch_or_nothing_can_be_hidden(everything: bool) -> None:
    gaussian, patches, _ = fitted()
    hidden = np.full(SIZE, everything)
    rest = patches[0][~hidden]
    zeros = np.zeros((2, len(patches))), np.zeros((2, SIZE))
    drawn = Conditional(gaussian, hidden).draw(rest, *zeros)
    assert drawn.shape == (2, SIZE * everything)
    np.testing.assert_allclose(drawn, np.tile(gaussian.mean[hidden], (2, 1)), atol=1e-6)


def test_gaussian_of_one_color_draws_that_color() -> None:
    gaussian = PatchGaussian.fit(np.full((50, 2, 4, 4), 0.7))
    draw = np.random.default_rng(0)
    numbers = draw.normal(size=(3, 50)), draw.normal(size=(3, SIZE))
    drawn = Conditional(gaussian, HIDDEN).draw(np.full((~HIDDEN).sum(), 0.7), *numbers)
    np.testing.assert_allclose(drawn, 0.7, atol=1e-4)


def test_patches_are_parts_of_all_images() -> None:
    draw = np.random.default_rng(0)
    images = [np.full((1, 2, 40, 50), n) + np.arange(50.0) / 100 for n in range(3)]
    patches = cut_patches(images, (4, 6), draw)
    assert len(patches) == 3 * -(-PATCHES // 3)
    assert patches.shape[1:] == (2, 4, 6)
    assert np.bincount(patches[:, 0, 0, 0].astype(int)).tolist() == [667] * 3
    np.testing.assert_allclose(np.diff(patches, axis=3), 0.01)


def test_large_patches_are_fewer() -> None:
    image = np.zeros((1, 3, 200, 200))
    patches = cut_patches([image], (150, 150), np.random.default_rng(0))
    assert len(patches) == (16 << 20) // (3 * 150 * 150) == 248


def test_small_image_gives_every_patch_once() -> None:
    image = np.arange(2 * 5 * 6.0).reshape(1, 2, 5, 6)
    patches = cut_patches([image], (4, 4), np.random.default_rng(0))
    corners = sorted(patches[:, 0, 0, 0].tolist())
    assert corners == [0, 1, 2, 6, 7, 8]
