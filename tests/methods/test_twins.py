"""The slow twins of the methods keep what the papers prove, and the layered nets are what ONNX Runtime runs."""

import numpy as np
import onnxruntime
import pytest

from onnxcam.arrays import Floats
from tests.methods.support.image_twins import (
    blur_ig,
    blurred,
    integrated_gradients,
    rise,
    rise_mask,
    smooth_grad,
)
from tests.methods.support.layer_twins import (
    biases,
    deep_lift,
    full_grad,
    full_gradient_terms,
    guided_backprop,
)
from tests.methods.support.twins import (
    CELL,
    activation_map,
    layer_cam,
    probability,
    recipro_cam,
    shapley_cam,
)
from tests.support.layered_nets import CURVED, PIECEWISE, LayeredNet
from tests.support.nets import random_images

X = random_images(3)
NETS = {"curved": CURVED, "piecewise": PIECEWISE}
every_net = pytest.mark.parametrize("net", NETS.values(), ids=NETS)


def correlation(a: Floats, b: Floats) -> float:
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])


@every_net
def test_net_equals_its_onnx_model(net: LayeredNet) -> None:
    session = onnxruntime.InferenceSession(net.content())
    (actual,) = session.run(None, {"x": X})
    expected = [[probability(net.logits(x), c) for c in range(5)] for x in X]
    np.testing.assert_allclose(actual, expected, rtol=1e-5)
    for x in X:
        np.testing.assert_array_equal(net.head(net.features(x)), net.logits(x))


@every_net
def test_gradient_equals_differences(net: LayeredNet) -> None:
    step = 1e-5
    for start, gradient, function in (
        (X[0].astype(np.float64), net.gradient, net.logits),
        (net.features(X[0]), net.head_gradient, net.head),
    ):
        actual, differences = gradient(start, 2), np.zeros(start.shape)
        for index in np.ndindex(start.shape):
            moved = np.zeros(start.shape)
            moved[index] = step
            ahead, back = function(start + moved)[2], function(start - moved)[2]
            differences[index] = (ahead - back) / (2 * step)
        np.testing.assert_allclose(actual, differences, atol=1e-7 * np.abs(actual).max())


def test_gradient_of_curved_net_depends_on_image_and_cell() -> None:
    """Otherwise methods coincide: with one gradient for all cells, layer-cam is grad-cam."""
    for x in X:
        g = CURVED.head_gradient(CURVED.features(x), 1)
        assert np.all(g.std(axis=(1, 2)) > 0.1 * np.abs(g).max(axis=(1, 2)))
    gradients = [CURVED.gradient(x, 1) for x in X]
    assert correlation(gradients[0], gradients[1]) < 0.9


@every_net
def test_maps_at_the_layer_differ_from_one_another(net: LayeredNet) -> None:
    """Else a comparison with a twin could not tell the methods apart."""
    maps = [method(net, X[0], 1) for method in (activation_map, layer_cam, recipro_cam)]
    maps.append(recipro_cam(net, X[0], 1, CELL))
    for number, first in enumerate(maps):
        assert (first > 0).any()
        for second in maps[:number]:
            assert correlation(first, second) < 0.99


def test_shapley_cam_equals_grad_cam_only_where_head_is_linear() -> None:
    maps = {}
    for name, net in NETS.items():
        activation = net.features(X[0])
        weights = net.head_gradient(activation, 1).mean(axis=(1, 2))
        grad_cam = np.maximum(np.einsum("k,khw->hw", weights, activation), 0)
        maps[name] = (grad_cam, shapley_cam(net, X[0], 1))
    np.testing.assert_allclose(*maps["piecewise"], atol=1e-9)
    assert correlation(*maps["curved"]) < 0.99


def test_recipro_cam_of_one_cell_is_probability_of_this_cell() -> None:
    activation = CURVED.features(X[0])
    kept = np.zeros_like(activation)
    kept[:, 0, 3] = activation[:, 0, 3]
    expected = probability(CURVED.head(kept), 4)
    assert recipro_cam(CURVED, X[0], 4, CELL)[0, 3] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("baseline", [0.0, 0.5])
def test_integrated_gradients_add_up_to_the_score(baseline: float) -> None:
    start = np.full(X[0].shape, baseline)
    gap = CURVED.logits(X[0])[1] - CURVED.logits(start)[1]
    assert integrated_gradients(CURVED, X[0], 1, baseline).sum() == pytest.approx(gap, rel=1e-6)


def test_blur_ig_adds_up_to_the_score_with_many_steps() -> None:
    gap = CURVED.logits(X[0])[1] - CURVED.logits(blurred(X[0], 3.0))[1]
    sums = [blur_ig(CURVED, X[0], 1, 3.0, steps).sum() for steps in (30, 60)]
    errors = [abs(total - gap) for total in sums]
    assert errors[1] < 0.6 * errors[0]  # of first order in the size of a step
    assert errors[1] < 0.1 * abs(gap)


def test_blur_keeps_mean_inside_and_loses_it_at_the_border() -> None:
    image = np.zeros((2, 15, 15))
    image[0, 7, 7] = 1
    image[1, 0, 7] = 1
    values = blurred(image, 1.0)
    assert values[0].sum() == pytest.approx(1, abs=1e-3)
    assert values[1].sum() == pytest.approx(0.7, abs=1e-2)  # 0.5 + half of the middle weight, 0.4
    assert values[0, 7, 8] / values[0, 7, 7] == pytest.approx(np.exp(-0.5))


def test_smooth_grad_of_equal_copies_is_the_gradient() -> None:
    actual = smooth_grad(CURVED, [X[0], X[0]], 1)
    np.testing.assert_allclose(actual, CURVED.gradient(X[0], 1), rtol=1e-12)


def test_rise_with_one_pixel_masks_gives_scores_of_pixels() -> None:
    masks = np.eye(64).reshape(64, 8, 8)
    scores = rise(CURVED, X[0], 1, [*masks], kept=1 / 64)
    expected = [probability(CURVED.logits(X[0] * mask), 1) for mask in masks]
    np.testing.assert_allclose(scores.ravel(), expected, rtol=1e-12)


def test_rise_mask_is_shifted_and_enlarged() -> None:
    cells = np.array([[1.0, 0.0], [0.0, 0.0]])
    enlarged = rise_mask(cells, (0, 0), 8, 8)  # to 12 x 12, a center every 6 pixels
    assert enlarged[:2, :2] == pytest.approx(1.0)
    assert enlarged[2, 3] == pytest.approx(1 - 1 / 12)
    assert enlarged[4, 4] == pytest.approx((1 - 3 / 12) ** 2)
    np.testing.assert_allclose(rise_mask(cells, (1, 2), 8, 8)[:6, :6], enlarged[1:7, 2:8])
    np.testing.assert_allclose(rise_mask(np.ones((7, 7)), (1, 1), 8, 9), 1.0)


def test_guided_backprop_of_positive_net_is_the_gradient() -> None:
    layers = dict(PIECEWISE.layers)
    for name in ("c1", "c2", "h1", "logits"):
        layers[name] = type(layers[name])(
            **{
                field: np.abs(value) if isinstance(value, np.ndarray) else value
                for field, value in vars(layers[name]).items()
            }
        )
    positive = LayeredNet(layers)
    np.testing.assert_array_equal(guided_backprop(positive, X[0], 1), positive.gradient(X[0], 1))
    assert correlation(guided_backprop(PIECEWISE, X[0], 1), PIECEWISE.gradient(X[0], 1)) < 0.9


@every_net
@pytest.mark.parametrize("baseline", [0.0, X[2]], ids=["number", "image"])
def test_deep_lift_adds_up_to_the_score(net: LayeredNet, baseline: Floats | float) -> None:
    gap = net.logits(X[0])[1] - net.logits(np.zeros(X[0].shape) + baseline)[1]
    assert deep_lift(net, X[0], 1, baseline).sum() == pytest.approx(gap, rel=1e-9)
    gradient = (X[0] - baseline) * net.gradient(X[0], 1)
    assert correlation(deep_lift(net, X[0], 1, baseline), gradient) < 0.97


def test_full_gradient_terms_add_up_to_the_score_of_piecewise_linear_net() -> None:
    assert [*biases(PIECEWISE)] == ["n1", "c2", "h1", "logits"]
    for x in X:
        at_image, at_biases = full_gradient_terms(PIECEWISE, x, 1)
        total = at_image.sum() + sum(term.sum() for term in at_biases.values())
        assert total == pytest.approx(PIECEWISE.logits(x)[1], rel=1e-9)


def test_full_grad_counts_every_channel_of_every_layer() -> None:
    saliency = full_grad(PIECEWISE, X[0], 1)
    assert saliency.shape == (8, 8)
    assert saliency.max() > 1  # psi of one layer alone is 1 at most in a channel
    assert (saliency > 0).mean() > 0.9
