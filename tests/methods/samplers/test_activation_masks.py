"""Samples that are made of the feature maps of a layer."""

from dataclasses import fields
from typing import Any

import numpy as np
import pytest

from onnxcam.arrays import Floats
from onnxcam.methods.samplers import SAMPLERS, CleanRun, Samples
from onnxcam.methods.samplers.activation_masks import ActivationMasks, choose_maps
from onnxcam.specs import Layer
from tests.methods.support.score_twins import mask_of

RANDOM = np.random.default_rng(0)
MAPS = RANDOM.normal(size=(6, 2, 3)) * np.array([30.0, 0, 1, 6, 0, 150]).reshape(6, 1, 1) + 1
"""Feature maps of which 1 and 4 are flat; map 5 varies most, then 0, 3 and 2."""


def twin_mask(number: int, height: int = 4, width: int = 6) -> Floats:
    """The mask of a feature map; zeros for a flat one."""
    mask = mask_of(MAPS[number], height, width)
    return np.zeros((height, width)) if mask is None else mask


def clean_run(layer: Layer, values: Floats, image: Floats) -> CleanRun:
    unused: dict[str, Any] = dict.fromkeys(field.name for field in fields(CleanRun))
    known = {"layer": layer, "values": values, "image": image, "aspect_ratio": 2 / 3}
    shared = {"recall": lambda _, make: make(), "scores": lambda _: np.ones(1)}
    return CleanRun(**{**unused, **known, **shared})


def draw(name: str, run: CleanRun, *quantities: Floats, **settings: Any) -> Samples:
    function = SAMPLERS[name].draw
    assert function is not None
    return function(run, *quantities, **settings)


def masked(name: str, image: Floats, **settings: Any) -> Samples:
    """Samples of an image (1, 1, H, W) under masks of MAPS."""
    layer = Layer("x", "", image.shape, 1, is_bottleneck=True)
    return draw(name, clean_run(layer, image, image), MAPS[None], **settings)


@pytest.mark.parametrize("size", [(2, 3), (7, 9), (1, 1), (32, 5)])
def test_mask_equals_twin(size: tuple[int, int]) -> None:
    masks = ActivationMasks(MAPS.astype(np.float32), size)
    for number in (0, 2, 3, 5):
        np.testing.assert_allclose(masks.draw(number), twin_mask(number, *size), atol=1e-6)


def test_flat_map_is_a_mask_of_zeros() -> None:
    assert not ActivationMasks(MAPS.astype(np.float32), (4, 6)).draw(1).any()


def test_maps_that_vary_most_are_chosen() -> None:
    chosen = {limit: choose_maps(MAPS, limit).tolist() for limit in (0, 1, 2, 4, 9)}
    assert chosen == {0: [0, 2, 3, 5], 1: [5], 2: [0, 5], 4: [0, 2, 3, 5], 9: [0, 2, 3, 5]}


def test_samples_are_the_image_under_each_mask_that_is_not_flat() -> None:
    image = RANDOM.normal(size=(1, 1, 4, 6)).astype(np.float32)
    samples = masked("activation-masks", image)
    assert samples.count == 4
    assert samples.offsets is not None
    shown = image + samples.offsets[1:3]
    expected = [image[0] * twin_mask(number) for number in (2, 3)]
    np.testing.assert_allclose(shown, expected, atol=1e-6)
    assert samples.columns is not None
    assert samples.columns.tolist() == [0, 2, 3, 5]
    assert samples.width == 6
    assert samples.named["selected"].tolist() == [[1, 0, 1, 1, 0, 1]]


def test_copies_are_neighbors_and_share_their_noise() -> None:
    image = np.ones((1, 1, 4, 6), np.float32)
    samples = masked("noisy-activation-masks", image, samples=3, sigma=0.5, maps=2)
    assert samples.count == 6
    assert samples.columns is not None
    assert samples.columns.tolist() == [0, 1, 2, 15, 16, 17]
    assert samples.offsets is not None
    shown = (image + samples.offsets[0:6])[:, 0].reshape(2, 3, 4, 6)
    noises = [shown[i] - twin_mask(number) for i, number in enumerate((0, 5))]
    np.testing.assert_allclose(noises[0], noises[1], atol=1e-6)
    assert np.std(noises[0]) == pytest.approx(0.5, rel=0.2)
    assert np.abs(noises[0][0] - noises[0][1]).max() > 0.1
    np.testing.assert_array_equal(samples.offsets[2:5], samples.offsets[0:6][2:5])


def test_copies_fade_in() -> None:
    image = np.ones((1, 1, 4, 6), np.float32)
    samples = masked("fading-activation-masks", image, steps=4, maps=1)
    assert samples.offsets is not None
    shown = (image + samples.offsets[0:4])[:, 0]
    mask = twin_mask(5)
    np.testing.assert_allclose(shown, [mask * part / 4 for part in (1, 2, 3, 4)], atol=1e-6)


def test_masks_are_computed_when_they_are_run() -> None:
    """All of them would take 64 MiB times the number of feature maps."""
    image = np.ones((1, 1, 4096, 4096), np.float32)
    samples = masked("noisy-activation-masks", image, samples=100_000)
    assert samples.count == 400_000
    assert samples.offsets is not None
    assert samples.offsets[399_999:400_000].shape == (1, 1, 4096, 4096)


@pytest.mark.parametrize("axis", [1, 2])
def test_one_feature_map_is_set_to_zero_and_tokens_are_kept(axis: int) -> None:
    layer = Layer("t", "Add", (None, 4, 8) if axis == 1 else (None, 8, 4), axis, True,
                  cells=(2, 3), tokens_before=1, tokens_after=1)  # fmt: skip
    tokens = RANDOM.normal(size=(1, 8, 4)).astype(np.float32)
    tokens[0, 1:7, 2] = 0
    values = tokens if axis == 2 else tokens.transpose(0, 2, 1)
    samples = draw("ablated-maps", clean_run(layer, values, values))
    assert samples.count == 3
    assert samples.columns is not None
    assert samples.columns.tolist() == [0, 1, 3]
    assert samples.named["selected"].tolist() == [[1, 1, 0, 1]]
    assert samples.offsets is not None
    changed = values + samples.offsets[2:3]
    expected = tokens.copy()
    expected[0, 1:7, 3] = 0
    np.testing.assert_array_equal(changed if axis == 2 else changed.transpose(0, 2, 1), expected)
