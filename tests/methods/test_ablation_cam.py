"""Ablation-CAM."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import onnxcam
from onnxcam.arrays import Floats
from onnxcam.errors import ModelError, SettingError
from tests.methods.support.compare import NETS, TARGET, X, assert_close, explain, stack
from tests.methods.support.compare_layer import (
    VITS,
    Tokens,
    assert_token_map_equals_twin,
)
from tests.methods.support.score_twins import ablation_cam
from tests.support.layered_nets import CLASSES, CURVED, PIECEWISE
from tests.support.nets import DEEP, FIXED, NHWC, POOLED, SKIP, random_images


def maps_of(content: bytes, images: Floats = X, target: Any = TARGET, **options: Any) -> Any:
    explainer = onnxcam.Explainer(content, "ablation-cam", device="cpu", **options)
    return explainer(images, target).layer_maps


@pytest.mark.parametrize("net", NETS)
def test_maps_of_all_classes_equal_twin(net: str) -> None:
    """Of some classes, all evidence may be against them."""
    explainer = onnxcam.Explainer(NETS[net].content(), "ablation-cam", layer="features")
    actual = [explainer(X, target).layer_maps for target in range(CLASSES)]
    expected = [[ablation_cam(NETS[net], x, target) for x in X] for target in range(CLASSES)]
    assert np.any(expected, axis=(1, 2, 3)).sum() > 2
    assert_close(np.concatenate(actual), np.concatenate(expected))


@pytest.mark.parametrize("vit", VITS)
def test_map_of_tokens_equals_twin_with_class_token(vit: str) -> None:
    assert_token_map_equals_twin("ablation-cam", VITS[vit], ablation_cam)


def test_map_before_pooled_linear_head_is_grad_cam_of_positive_score() -> None:
    """S - S_k is the class's weight times the mean of A_k; Grad-CAM's is the weight alone."""
    features, images = POOLED.features(X), X
    weights = POOLED.weights["v"][TARGET]
    score = np.abs(POOLED.logits(features)[:, TARGET])
    terms = features * (weights * features.mean(axis=(2, 3)))[:, :, None, None]
    expected = np.maximum(terms.sum(axis=1) / score[:, None, None], 0)
    assert_close(maps_of(POOLED.content(), images, layer="features"), expected)


def test_weights_keep_their_sign_where_the_score_is_negative() -> None:
    """The evidence for a class does not become evidence against it, as it would by dividing by the score."""
    scores = np.array([[CURVED.logits(x)[target] for target in range(5)] for x in X])
    number, target = (int(index) for index in np.argwhere(scores < -0.1)[0])
    x = X[number]
    features, score = CURVED.features(x), CURVED.logits(x)[target]
    lost = []
    for k in range(len(features)):
        without = features.copy()
        without[k] = 0
        lost.append(score - CURVED.head(without)[target])
    expected = np.maximum(np.einsum("k,khw->hw", lost, features), 0) / -score
    assert_close(maps_of(CURVED.content(), x[None], target, layer="features"), expected[None])


def test_other_targets_lose_their_own_score() -> None:
    first, second = (np.stack([CURVED.logits(x)[c] for x in X]) for c in (1, 2))
    contrast, size = first - second, np.abs(first - second)[:, None, None]
    expected = []
    for x, score in zip(X, contrast, strict=True):
        features = CURVED.features(x)
        saliency = np.zeros(features.shape[1:])
        for k, feature_map in enumerate(features):
            without = features.copy()
            without[k] = 0
            logits = CURVED.head(without)
            saliency += (score - (logits[1] - logits[2])) * feature_map
        expected.append(np.maximum(saliency, 0))
    actual = maps_of(CURVED.content(), target="1-2", layer="features")
    assert_close(actual, np.stack(expected) / size)


def test_channels_last_and_fixed_batches_have_map_of_their_net() -> None:
    batch_of_three = replace(FIXED, head=DEEP.head, flatten=DEEP.flatten).with_batch("3")
    expected = maps_of(DEEP.content(), layer="features")
    assert_close(maps_of(batch_of_three.content(), layer="features"), expected)
    images = X.transpose(0, 2, 3, 1)
    assert_close(
        maps_of(NHWC.content(), images, layer="features"),
        maps_of(DEEP.content(), layer="features"),
    )


def test_part_of_the_model_beside_the_layer_is_run_once() -> None:
    """Where a layer is no bottleneck, the score also depends on what goes around it."""
    vit = VITS["one class token"]
    images = random_images(2, (3, 4, 6))
    explainer = onnxcam.Explainer(vit.content(), "ablation-cam", layer="ln", device="cpu")
    assert {"tokens", "x"} & explainer.runner.runs["head"].session.inputs == {"tokens"}
    assert_close(
        explainer(images, TARGET).layer_maps,
        np.stack([ablation_cam(Tokens(vit, x), x, TARGET) for x in images]),
    )


def test_part_beside_the_layer_of_a_fixed_batch_gives_the_same_map() -> None:
    nets = [
        replace(SKIP, shape=f"{batch}, 3, 8, 8", outputs=f"float[{batch}, 10] scores")
        for batch in ("N", "1", "3")
    ]
    maps = [maps_of(net.content(), layer="features") for net in nets]
    assert_close(maps[1], maps[0])
    assert_close(maps[2], maps[0])


def with_empty_maps(*numbers: int) -> bytes:
    """PIECEWISE with feature maps that are 0."""
    layers: dict[str, Any] = dict(PIECEWISE.layers)
    weight, bias = layers["c2"].weight.copy(), layers["c2"].bias.copy()
    weight[[*numbers]] = bias[[*numbers]] = 0
    layers["c2"] = replace(layers["c2"], weight=weight, bias=bias)
    return replace(PIECEWISE, layers=layers).content()


def test_feature_maps_that_are_zero_count_as_run() -> None:
    explainer = onnxcam.Explainer(with_empty_maps(0, 3), "ablation-cam", layer="features")
    counts: list[int] = []
    assert explainer(X[:1], TARGET, progress=counts.append).layer_maps is not None
    assert (explainer.passes, sum(counts)) == (6, 6)
    assert not maps_of(with_empty_maps(*range(6)), layer="features").any()


def test_map_of_probability_is_of_its_losses() -> None:
    logit, probability = (
        explain("ablation-cam", CURVED, layer="features", score=score).layer_maps
        for score in ("logit", "probability")
    )
    assert logit is not None
    assert probability is not None
    assert_close(logit, stack(ablation_cam, CURVED))
    assert np.abs(logit - probability).max() > 1e-3


def test_several_layers_and_parts_of_a_layer_are_refused() -> None:
    with pytest.raises(ModelError, match="samples from the values of one layer, but there are 2"):
        explain("ablation-cam", CURVED, layer=["features", "c1"])
    with pytest.raises(SettingError, match="--channels does not apply to ablation-cam"):
        explain("ablation-cam", CURVED, layer="features", channels=[0])
