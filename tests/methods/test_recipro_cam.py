"""Recipro-CAM."""

import numpy as np
import pytest

import onnxcam
from onnxcam.errors import ModelError, SettingError
from onnxcam.methods import METHODS
from tests.methods.support import twins
from tests.methods.support.compare import NETS, TARGET, X, assert_close, explain
from tests.methods.support.compare_layer import (
    VITS,
    assert_layer_map_equals_twin,
    assert_token_map_equals_twin,
)
from tests.methods.support.written import run_written
from tests.support.layered_nets import CURVED
from tests.support.nets import NHWC, random_images


@pytest.mark.parametrize("net", NETS)
def test_map_equals_twin(net: str) -> None:
    assert_layer_map_equals_twin("recipro-cam", NETS[net], twins.recipro_cam)


def test_map_of_one_cell_equals_twin() -> None:
    explanation = explain("recipro-cam", CURVED, layer="features", kernel="cell")
    twin = [twins.recipro_cam(CURVED, x, TARGET, twins.CELL) for x in X]
    assert_close(explanation.layer_maps, np.stack(twin))


@pytest.mark.parametrize("vit", VITS)
def test_map_of_tokens_equals_twin_with_class_token(vit: str) -> None:
    assert_token_map_equals_twin("recipro-cam", VITS[vit], twins.recipro_cam)


def test_contrast_is_difference_of_probabilities() -> None:
    explainer = onnxcam.Explainer(CURVED.content(), "recipro-cam", layer="features", device="cpu")
    first, second, contrast, against = (
        explainer(X, target).layer_maps for target in (1, 2, "1-2", "not 1")
    )
    np.testing.assert_allclose(contrast, np.maximum(first - second, 0), atol=1e-6)
    np.testing.assert_allclose(against, 1 - first, atol=1e-6)


def test_image_with_channels_last_equals_twin() -> None:
    x = random_images(2, (8, 8, 3))
    explainer = onnxcam.Explainer(NHWC.content(), "recipro-cam", layer="features", device="cpu")
    features = NHWC.features(x.transpose(0, 3, 1, 2))
    kept = np.zeros_like(features)
    kept[:, :, 0, 0], kept[:, :, 0, 1] = features[:, :, 0, 0] / 4, features[:, :, 0, 1] / 8
    kept[:, :, 1, 0], kept[:, :, 1, 1] = features[:, :, 1, 0] / 8, features[:, :, 1, 1] / 16
    powers = np.exp(NHWC.logits(kept))
    expected = powers[:, TARGET] / powers.sum(axis=1)
    maps = explainer(x, TARGET).layer_maps
    np.testing.assert_allclose(maps[:, 0, 0], expected, rtol=1e-5)


def test_several_layers_are_refused() -> None:
    with pytest.raises(
        ModelError, match="makes samples from the values of one layer, but there are 2"
    ):
        explain("recipro-cam", CURVED, layer=["features", "c1"])


def test_part_of_layer_is_refused() -> None:
    with pytest.raises(SettingError, match="--channels does not apply to recipro-cam"):
        explain("recipro-cam", CURVED, layer="features", channels=[0])


def test_formula_runs_on_values() -> None:
    draw = np.random.default_rng(0)
    arrays = {"probabilities": draw.normal(size=(2, 12)), "grid": np.zeros((2, 3, 4))}
    formula = METHODS["recipro-cam"].formula
    np.testing.assert_array_equal(run_written(formula, arrays), formula(*arrays.values()))
