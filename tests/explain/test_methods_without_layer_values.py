"""Formulas that take only what was computed from samples, or no value per cell of the layer."""

from typing import Any

import numpy as np
import pytest

import onnxcam
from onnxcam.arrays import Maps, Saliency
from onnxcam.registry import Registry
from tests.support.nets import DEEP, random_images


@pytest.fixture(autouse=True)
def restored_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test registers is gone after it."""
    registries: list[Registry[Any]] = [onnxcam.METHODS]
    for registry in registries:
        monkeypatch.setattr(registry, "_values", dict(registry))


def test_samples_of_method_without_target_are_run() -> None:
    @onnxcam.method("mean-of-samples", source="this test", sampler="gaussian")
    def mean_of_samples(mean_activation: Maps) -> Saliency:
        """The mean activation over the samples."""
        return np.mean(mean_activation, axis=1)

    x = random_images(2)
    explainer = onnxcam.Explainer(
        DEEP.content(), "mean-of-samples", layer="features", sigma=0, samples=3
    )
    expected = DEEP.features(x).mean(axis=1)
    np.testing.assert_allclose(explainer(x).layer_maps, expected, rtol=1e-5, atol=1e-6)
    part = explainer(x, channels=[1, 4])
    expected = DEEP.features(x)[:, [1, 4]].mean(axis=1)
    np.testing.assert_allclose(part.layer_maps, expected, rtol=1e-5, atol=1e-6)
