"""`deconvnet` passes positive gradients through all rectifiers."""

import numpy as np

from tests.methods.support.compare import (
    NETS,
    assert_attributions,
    assert_close,
    explain,
    stack,
)
from tests.methods.support.layer_twins import deconvnet, guided_backprop
from tests.support.layered_nets import PIECEWISE, Conv, LayeredNet


def test_deconvnet_equals_twin() -> None:
    expected = stack(deconvnet, PIECEWISE)
    assert_attributions(explain("deconvnet", PIECEWISE), expected)
    guided = stack(guided_backprop, PIECEWISE)
    assert np.corrcoef(expected.ravel(), guided.ravel())[0, 1] < 0.99


def test_deconvnet_of_net_without_pools_is_the_same_for_all_images() -> None:
    weight = np.random.default_rng(5).normal(size=(5, 5, 3, 3)).astype(np.float32)
    layers = {**PIECEWISE.layers, "pooled": Conv(weight.astype(np.float64), None, stride=2)}
    actual = explain("deconvnet", LayeredNet(layers)).attributions
    assert actual is not None
    assert_close(actual[1:], np.stack([actual[0]] * 2))
    with_pools = np.asarray(explain("deconvnet", PIECEWISE).attributions)
    assert np.abs(with_pools[1] - with_pools[0]).max() > 0.1 * np.abs(with_pools).max()


def test_deconvnet_of_smooth_rectifiers_is_neither_gradient_nor_guided() -> None:
    net = NETS["curved"]
    actual, *others = (
        explain(method, net).maps.ravel() for method in ("deconvnet", "saliency", "guided-backprop")
    )
    for other in others:
        assert np.corrcoef(actual, other)[0, 1] < 0.99
