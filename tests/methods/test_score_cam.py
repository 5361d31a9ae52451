"""Score-CAM, SS-CAM and IS-CAM."""

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest

import onnxcam
from onnxcam.arrays import Floats
from onnxcam.errors import ModelError, SettingError
from onnxcam.methods.samplers.gaussian import GaussianNoise
from tests.methods.support import score_twins
from tests.methods.support.compare import NETS, TARGET, Twin, X, assert_close, explain, stack
from tests.methods.support.compare_layer import (
    VITS,
    assert_layer_map_equals_twin,
    assert_token_map_equals_twin,
)
from tests.support.layered_nets import CURVED, PIECEWISE, LayeredNet
from tests.support.nets import ANY_SIZE, DEEP, FIXED, NHWC, POOLED, Net, random_images

FEW: dict[str, dict[str, Any]] = {"score-cam": {}, "ss-cam": {"samples": 4}, "is-cam": {}}
every_method = pytest.mark.parametrize("method", FEW)


def noises(size: tuple[int, int] = (8, 8), seed: int = 0, sigma: float = 2.0) -> list[Floats]:
    """Four."""
    return [*(sigma * np.asarray(GaussianNoise(seed, size)[0:4], np.float64))]


def twin_of(method: str, size: tuple[int, int] = (8, 8)) -> Twin:
    twins: dict[str, Twin] = {
        "score-cam": score_twins.score_cam,
        "ss-cam": partial(score_twins.ss_cam, noises=noises(size)),
        "is-cam": score_twins.is_cam,
    }
    return twins[method]


class Single:
    """A net of `nets.py` on one image at a time."""

    def __init__(self, net: Net) -> None:
        self.net = net

    def features(self, x: Floats) -> Floats:
        return self.net.features(x[None])[0]

    def logits(self, x: Floats) -> Floats:
        return self.net.logits(self.net.features(x[None]))[0]


@every_method
@pytest.mark.parametrize("net", NETS)
def test_map_equals_twin(method: str, net: str) -> None:
    assert_layer_map_equals_twin(method, NETS[net], twin_of(method), **FEW[method])


@every_method
@pytest.mark.parametrize("vit", VITS)
def test_map_of_tokens_equals_twin(method: str, vit: str) -> None:
    twin = twin_of(method, (4, 6))
    assert_token_map_equals_twin(method, VITS[vit], twin, **FEW[method])


@pytest.mark.parametrize(("seed", "sigma"), [(3, 2.0), (0, 0.5)])
def test_noise_of_ss_cam_follows_seed_and_sigma(seed: int, sigma: float) -> None:
    settings: dict[str, Any] = {"samples": 4, "seed": seed, "sigma": sigma}
    twin: Twin = partial(score_twins.ss_cam, noises=noises(seed=seed, sigma=sigma))
    assert_layer_map_equals_twin("ss-cam", CURVED, twin, **settings)
    maps = explain("ss-cam", CURVED, layer="features", samples=4).layer_maps
    assert maps is not None
    assert np.abs(maps - stack(twin, CURVED)).max() > 1e-3


def test_steps_of_is_cam_are_parts_of_the_mask() -> None:
    twin: Twin = partial(score_twins.is_cam, steps=3)
    assert_layer_map_equals_twin("is-cam", CURVED, twin, steps=3)


@pytest.mark.parametrize("method", ["ss-cam", "is-cam"])
def test_one_copy_without_change_is_score_cam(method: str) -> None:
    one: dict[str, Any] = {"samples": 1, "sigma": 0} if method == "ss-cam" else {"steps": 1}
    assert_layer_map_equals_twin(method, CURVED, score_twins.score_cam, **one)


def test_maps_of_the_three_methods_differ() -> None:
    """Else a comparison with a twin could not tell them apart."""
    maps = [stack(twin_of(method), CURVED) for method in FEW]
    for number, first in enumerate(maps):
        for second in maps[:number]:
            assert np.abs(first - second).max() > 0.02 * np.abs(first).max()


def test_other_targets_weigh_by_their_scores() -> None:
    explainer = onnxcam.Explainer(CURVED.content(), "score-cam", layer="features", device="cpu")

    def expected(weights: Floats) -> Floats:
        def scored(x: Floats) -> Floats:
            return score_twins.weighted(
                CURVED, x, lambda mask: float(weights @ CURVED.logits(x * mask))
            )

        return np.stack([scored(x) for x in X])

    assert_close(explainer(X, "1-2").layer_maps, expected(np.array([0, 1.0, -1, 0, 0])))
    assert_close(explainer(X, "not 1").layer_maps, expected(np.array([0, -1.0, 0, 0, 0])))


@every_method
def test_channels_last_and_fixed_batches_equal_twin(method: str) -> None:
    expected = np.stack([twin_of(method)(Single(DEEP), x, TARGET) for x in X])
    batch_of_three = replace(FIXED, head=DEEP.head, flatten=DEEP.flatten).with_batch("3")
    for net, images in ((NHWC, X.transpose(0, 2, 3, 1)), (FIXED, X), (batch_of_three, X)):
        explainer = onnxcam.Explainer(net.content(), method, layer="features", **FEW[method])
        twin = twin_of(method)
        own = np.stack([twin(Single(net), x, TARGET) for x in X])
        assert_close(explainer(images, TARGET).layer_maps, own)
        if net is batch_of_three:
            assert_close(own, expected)


def test_images_of_other_sizes_have_masks_of_their_size() -> None:
    x = random_images(1, (3, 10, 14))
    explainer = onnxcam.Explainer(ANY_SIZE.content(), "score-cam", layer="features", device="cpu")
    expected = score_twins.score_cam(Single(POOLED), x[0], TARGET)
    assert_close(explainer(x, TARGET).layer_maps, expected[None])
    counts: list[int] = []
    explainer(x, TARGET, progress=counts.append)
    assert sum(counts) == explainer.passes


def with_flat_maps(*numbers: int) -> LayeredNet:
    """PIECEWISE with feature maps that are 0."""
    layers = dict(PIECEWISE.layers)
    conv: Any = layers["c2"]
    weight, bias = conv.weight.copy(), conv.bias.copy()
    weight[[*numbers]] = bias[[*numbers]] = 0
    layers["c2"] = replace(conv, weight=weight, bias=bias)
    return replace(PIECEWISE, layers=layers)


@every_method
def test_flat_maps_weigh_nothing_and_count_as_run(method: str) -> None:
    net = with_flat_maps(0, 3)
    assert_layer_map_equals_twin(method, net, twin_of(method), **FEW[method])
    explainer = onnxcam.Explainer(net.content(), method, layer="features", **FEW[method])
    counts: list[int] = []
    explainer(X[:1], TARGET, progress=counts.append)
    copies = explainer.passes // 6
    assert explainer.passes == 6 * copies
    assert sum(counts) == 6 * copies


def test_map_without_a_mask_is_empty() -> None:
    explanation = explain("score-cam", with_flat_maps(*range(6)), layer="features")
    assert explanation.is_empty.all()


def test_limit_keeps_maps_that_vary_most() -> None:
    """The others weigh nothing."""
    explainer = onnxcam.Explainer(CURVED.content(), "score-cam", layer="features", maps=2)
    counts: list[int] = []
    actual = explainer(X, TARGET, progress=counts.append).layer_maps
    assert (explainer.passes, sum(counts)) == (2, 2 * len(X))
    expected = []
    for x in X:
        features = CURVED.features(x)
        chosen = np.argsort(features.std(axis=(1, 2)))[-2:]
        masks = [score_twins.mask_of(features[k], 8, 8) for k in chosen]
        powers = [np.exp(CURVED.logits(x * mask)[TARGET]) for mask in masks]
        saliency = sum(p * features[k] for p, k in zip(powers, chosen, strict=True)) / sum(powers)
        expected.append(np.maximum(saliency, 0))
    assert_close(actual, np.stack(expected))
    every = explain("score-cam", CURVED, layer="features", maps=100).layer_maps
    assert_close(every, stack(score_twins.score_cam, CURVED))


@every_method
def test_several_layers_are_refused(method: str) -> None:
    with pytest.raises(ModelError, match="samples from the values of one layer, but there are 2"):
        explain(method, CURVED, layer=["features", "c1"], **FEW[method])


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"channels": [0]}, "--channels does not apply to score-cam"),
        ({"maps": -1}, "maps=-1: expected 0 to"),
    ],
)
def test_option_without_meaning_is_refused(option: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        explain("score-cam", CURVED, layer="features", **option)
