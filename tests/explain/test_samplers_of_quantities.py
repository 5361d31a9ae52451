"""Samplers that make their samples from quantities of the clean image."""

from typing import Any

import numpy as np
import pytest

import onnxcam
from onnxcam.arrays import Floats, Maps, Saliency
from onnxcam.errors import ModelError
from onnxcam.methods.samplers import SAMPLERS, CleanRun, Samples
from onnxcam.registry import Registry
from tests.support.nets import DEEP, NHWC, POOLED, Net, random_images

X = random_images(2)


@pytest.fixture(autouse=True)
def restored_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test registers is gone after it."""
    registries: list[Registry[Any]] = [onnxcam.METHODS, SAMPLERS]
    for registry in registries:
        monkeypatch.setattr(registry, "_values", dict(registry))


@pytest.mark.parametrize("net", [DEEP, POOLED, NHWC], ids=["deep", "constant gradient", "nhwc"])
def test_sampler_and_formula_get_the_same_quantities(net: Net) -> None:
    @onnxcam.sampler("seen", named=("seen_activation", "seen_gradient"))
    def seen(clean: CleanRun, activation: Maps, gradient: Maps) -> Samples:
        """the model on the image."""
        return Samples(1, named={"seen_activation": activation, "seen_gradient": gradient})

    @onnxcam.method("see", source="this test, 2026", sampler="seen")
    def see(
        activation: Maps, gradient: Maps, seen_activation: Maps, seen_gradient: Maps
    ) -> Saliency:
        """What the sampler gets."""
        np.testing.assert_array_equal(activation, seen_activation)
        np.testing.assert_array_equal(gradient, seen_gradient)
        return np.sum(np.abs(activation), axis=1)

    x = X.transpose(0, 2, 3, 1) if net is NHWC else X
    explainer = onnxcam.Explainer(net.content(), "see", layer="features", device="cpu")
    expected = np.abs(net.features(X)).sum(axis=1)
    np.testing.assert_allclose(explainer(x, [1, 2]).layer_maps, expected, rtol=1e-5, atol=1e-6)


def test_quantity_that_only_the_sampler_takes_is_planned_and_counted() -> None:
    @onnxcam.sampler("halves", total=lambda layer, _: int(str(layer.channels)), named=("half",))
    def halves(clean: CleanRun, activation: Maps) -> Samples:
        """the model on the image, for every second feature map."""
        channels = activation.shape[1]
        odd = np.arange(1, channels, 2)
        return Samples(len(odd), named={"half": activation[:, 0]}, columns=odd, width=channels)

    @onnxcam.method("half", source="this test, 2026", sampler="halves")
    def half(sample_scores: Floats, half: Saliency) -> Saliency:
        """The scores, and 0 for feature maps that were not run."""
        assert not sample_scores[:, ::2].any()
        return np.abs(half) + np.abs(sample_scores[:, 1::2]).sum(axis=1)[:, None, None]

    explainer = onnxcam.Explainer(DEEP.content(), "half", layer="features", device="cpu")
    counts: list[int] = []
    explanation = explainer(X, 2, progress=counts.append)
    features = DEEP.features(X)
    scores = np.abs(DEEP.logits(features)[:, 2]) * (features.shape[1] // 2)
    expected = np.abs(features[:, 0]) + scores[:, None, None]
    np.testing.assert_allclose(explanation.layer_maps, expected, rtol=1e-5)
    assert explainer.passes == features.shape[1]
    assert sum(counts) == 2 * explainer.passes
    with pytest.raises(ModelError, match="samples from the values of one layer, but there are 2"):
        onnxcam.Explainer(DEEP.content(), "half", layer=["features", "early"])


def test_progress_counts_the_cells_of_the_layer() -> None:
    explainer = onnxcam.Explainer(DEEP.content(), "recipro-cam", layer="features", device="cpu")
    counts: list[int] = []
    explainer(X, 1, progress=counts.append)
    cells = DEEP.features(X)[0, 0].size
    assert (explainer.passes, sum(counts)) == (cells, 2 * cells)
