"""Composed methods: `smooth-` and `guided-` before the name of another, or as settings."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from onnxcam import METHODS, Explainer
from onnxcam.errors import SettingError, UnknownNameError
from onnxcam.methods import QUANTITIES, choose_method
from tests.support.layered_nets import CURVED
from tests.support.nets import random_images

LAYER = "features"
NOISY: dict[str, Any] = {"samples": 6, "noise": 0.2, "seed": 3}


def explain(method: str, image: Any, layer: Any = "auto", **settings: Any) -> Any:
    options: dict[str, Any] = {"device": "cpu", "cache": False, "preprocess": "unit"}
    return Explainer(CURVED.content(), method, layer, **options, **settings)(image)


@pytest.fixture(scope="module")
def image() -> Any:
    return random_images(1, seed=5)


def test_smooth_name_averages_gradients_of_noisy_copies(image: Any) -> None:
    smooth = explain("smooth-saliency", image, **NOISY)
    known = explain("smooth-grad", image, **NOISY)
    np.testing.assert_array_equal(smooth.maps, known.maps)
    assert smooth.provenance["method"]["name"] == "smooth-saliency"
    assert smooth.provenance["method"]["settings"]["samples"] == NOISY["samples"]


def test_smooth_method_without_noise_equals_the_method(image: Any) -> None:
    for name in ("layer-cam", "grad-cam", "eigen-grad-cam", "full-grad", "guided-backprop"):
        clean, smooth = explain(name, image), explain(f"smooth-{name}", image, noise=0.0, samples=2)
        np.testing.assert_allclose(smooth.maps, clean.maps, rtol=1e-5, atol=1e-7, err_msg=name)
        noisy = explain(f"smooth-{name}", image, **NOISY)
        assert np.abs(noisy.maps - clean.maps).max() > 1e-3 * np.abs(clean.maps).max(), name


def test_smooth_formula_gets_means_of_all_its_gradients() -> None:
    smooth = METHODS["smooth-shapley-cam"].quantities({})
    assert smooth == {"activation": "activation", "gradient": "d1", "hvp": "mean_hvp"}
    averaged = METHODS["smooth-layer-cam"].quantities({"activation": "mean"})
    assert averaged == {"activation": "mean_activation", "gradient": "d1"}
    assert QUANTITIES["mean_hvp"].reduction == "mean"
    assert "mean_d1" not in QUANTITIES


def test_smooth_method_reports_no_gap(image: Any) -> None:
    assert explain("gradient-x-input", image).facts[0]
    assert not explain("smooth-gradient-x-input", image, **NOISY).facts[0]


def test_feature_maps_of_a_guided_method_count(image: Any) -> None:
    guided = explain("guided-layer-cam", image, channels="0-1")
    expected = explain("guided-backprop", image).attributions
    expected = expected * explain("layer-cam", image, channels="0-1").maps[:, None]
    np.testing.assert_allclose(guided.attributions, expected, rtol=1e-4, atol=1e-7)


def test_guided_name_multiplies_guided_backpropagation_with_the_map(image: Any) -> None:
    for name in ("layer-cam", "activation-map", "eigen-cam", "grad-cam"):
        guided = explain(f"guided-{name}", image)
        expected = (
            explain("guided-backprop", image).attributions * explain(name, image).maps[:, None]
        )
        np.testing.assert_allclose(guided.attributions, expected, rtol=1e-4, atol=1e-7)
        np.testing.assert_allclose(guided.maps, np.abs(expected).max(axis=1), rtol=1e-4, atol=1e-7)
        assert guided.layer_maps is None


def test_guided_grad_cam_in_the_table_equals_the_composed_one(image: Any) -> None:
    listed = explain("guided-grad-cam", image)
    composed = explain("grad-cam", image, guided=True)
    assert METHODS["guided-grad-cam"] is choose_method("grad-cam", {"guided": True})[0]
    np.testing.assert_array_equal(listed.attributions, composed.attributions)


def test_prefixes_combine(image: Any) -> None:
    smooth = explain("smooth-guided-layer-cam", image, noise=0.0, samples=2)
    np.testing.assert_allclose(
        smooth.maps, explain("guided-layer-cam", image).maps, rtol=1e-5, atol=1e-7
    )
    by_settings = explain("layer-cam", image, smooth="true", guided="true", noise=0.0, samples=2)
    assert by_settings.provenance["method"]["name"] == "smooth-guided-layer-cam"
    np.testing.assert_array_equal(by_settings.maps, smooth.maps)


def test_maps_of_several_layers_are_fused(image: Any) -> None:
    fused = explain("guided-grad-cam", image, layer=["early", LAYER])
    assert fused.attributions is None
    assert fused.maps.shape == (1, *image.shape[2:])
    assert fused.maps.max() > 0


def test_name_of_the_table_wins_over_composition() -> None:
    chosen, settings = choose_method("grad-cam++", {"smooth": True, "samples": 4})
    assert chosen is METHODS["smooth-grad-cam++"]
    assert settings == {"samples": 4}
    assert choose_method("grad-cam++", {"smooth": False})[0] is METHODS["grad-cam++"]


def test_composed_names_are_known_but_not_listed() -> None:
    assert "smooth-layer-cam" in METHODS
    assert "smooth-layer-cam" not in list(METHODS)
    assert METHODS["smooth-layer-cam"] is METHODS["smooth-layer-cam"]
    assert "smooth-nothing" not in METHODS
    assert "smooth-rise" not in METHODS


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("smooth-rise", "no gradient"),
        ("smooth-activation-map", "no gradient"),
        ("smooth-integrated-gradients", "straight line"),
        ("smooth-smooth-grad-cam++", "noise"),
        ("guided-saliency", "no map of a layer"),
        ("guided-guided-grad-cam", "no map of a layer"),
        ("guided-smooth-layer-kam", "layer-cam"),
        ("smooth-grad-kam", "grad-cam"),
    ],
)
def test_impossible_composition_is_refused_with_the_reason(name: str, words: str) -> None:
    with pytest.raises(UnknownNameError, match=words):
        METHODS[name]


@pytest.mark.parametrize("value", ["perhaps", 2, None])
def test_setting_that_is_neither_true_nor_false_is_refused(value: Any) -> None:
    with pytest.raises(SettingError, match="expected true or false"):
        choose_method("grad-cam", {"smooth": value})
