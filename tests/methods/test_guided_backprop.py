"""`guided-backprop` passes positive gradients through rectifiers only."""

from dataclasses import replace

import numpy as np

from tests.methods.support.compare import NETS, assert_attributions, explain, stack
from tests.methods.support.layer_twins import guided_backprop
from tests.support.layered_nets import CURVED, PIECEWISE, Activation, LayeredNet


def test_guided_backprop_equals_twin() -> None:
    assert_attributions(explain("guided-backprop", PIECEWISE), stack(guided_backprop, PIECEWISE))


def test_guided_backprop_of_net_without_rectifiers_is_the_gradient() -> None:
    layers = {
        name: replace(layer, curve="tanh") if isinstance(layer, Activation) else layer
        for name, layer in CURVED.layers.items()
    }
    actual, expected = (
        explain(method, LayeredNet(layers)).attributions
        for method in ("guided-backprop", "saliency")
    )
    np.testing.assert_array_equal(np.asarray(actual), np.asarray(expected))


def test_guided_backprop_of_smooth_rectifiers_is_not_the_gradient() -> None:
    actual, expected = (
        explain(method, NETS["curved"]).maps for method in ("guided-backprop", "saliency")
    )
    assert np.corrcoef(actual.ravel(), expected.ravel())[0, 1] < 0.9
