"""LayerCAM."""

import numpy as np
import pytest

from tests.methods.support import twins
from tests.methods.support.compare import NETS, TARGET, X, assert_close, explain
from tests.methods.support.compare_layer import (
    VITS,
    assert_layer_map_equals_twin,
    assert_token_map_equals_twin,
)
from tests.support.layered_nets import CURVED


@pytest.mark.parametrize("net", NETS)
def test_map_equals_twin(net: str) -> None:
    assert_layer_map_equals_twin("layer-cam", NETS[net], twins.layer_cam)


@pytest.mark.parametrize("vit", VITS)
def test_map_of_tokens_equals_twin(vit: str) -> None:
    assert_token_map_equals_twin("layer-cam", VITS[vit], twins.layer_cam)


def test_region_and_channels_leave_only_their_terms() -> None:
    explanation = explain("layer-cam", CURVED, layer="features", channels=[0, 2], region="1:3,0:2")
    expected = np.zeros(explanation.layer_maps.shape)
    for x, saliency in zip(X, expected, strict=True):
        activation = CURVED.features(x)
        gradient = CURVED.head_gradient(activation, TARGET)
        terms = np.maximum(gradient, 0) * activation
        saliency[1:3, 0:2] = np.maximum(terms[[0, 2]].sum(axis=0), 0)[1:3, 0:2]
    assert_close(explanation.layer_maps, expected)
