"""End to end, a map is what NumPy gives: twin features, twin gradients, the formula, the interpolation."""

from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

from onnxcam.arrays import Saliency
from onnxcam.errors import ModelError, SettingError
from onnxcam.methods.postprocess import fuse_maps, resize_bilinear
from onnxcam.runtime.session import Session
from tests.explain.support.explained import (
    X,
    assert_same_map,
    clean_quantities,
    explainer,
    noisy,
    smoothed_quantities,
    top_class_weights,
)
from tests.methods.support.formulas import run
from tests.support.nets import CLASSES, DEEP, POOLED, Net

SMOOTH: dict[str, Any] = {"samples": 7, "noise": 0.2, "seed": 3}


@pytest.mark.parametrize("net", [POOLED, DEEP])
def test_slopes_of_numpy_nets_are_derivatives(net: Net) -> None:
    draw = np.random.default_rng(0)
    features, weights = net.features(X[:1]), draw.normal(size=CLASSES)
    direction = draw.normal(size=features.shape)
    ahead, behind = (net.logits(features + h * direction)[0] @ weights for h in (1e-6, -1e-6))
    slope = np.sum(net.slope(features, weights) * direction)
    np.testing.assert_allclose((ahead - behind) / 2e-6, slope, rtol=1e-6)


@pytest.mark.parametrize("method", ["grad-cam", "grad-cam++"])
@pytest.mark.parametrize("net", [POOLED, DEEP])
def test_methods_of_one_pass_agree_with_numpy(net: Net, method: str) -> None:
    found = explainer(net, method)(X)
    expected = np.concatenate(
        [run(method, clean_quantities(net, x, top_class_weights(net, x))) for x in X]
    )
    assert_same_map(found.layer_maps, expected)
    assert_same_map(found.maps, resize_bilinear(expected, 8, 8))
    logits = net.logits(net.features(X))
    np.testing.assert_allclose(found.scores, logits.max(axis=1), rtol=1e-5)
    assert found.indices == tuple(np.argmax(logits, axis=1))
    assert found.maps.dtype == found.layer_maps.dtype == np.float32


def test_cam_uses_rows_of_linear_layer() -> None:
    found = explainer(POOLED, "cam")(X[:1], target=2)
    activation = POOLED.features(X[:1])
    row = POOLED.weights["v"][2].astype(np.float64)
    assert_same_map(found.layer_maps, np.maximum(np.einsum("k,nkhw->nhw", row, activation), 0))


def test_cam_is_refused_for_another_head() -> None:
    with pytest.raises(ModelError, match=r"'features'.*depends on the image; use grad-cam"):
        explainer(DEEP, "cam")(X[:1])


@pytest.mark.parametrize("numerator", ["d2", "d1"])
@pytest.mark.parametrize("score", ["logit", "exp"])
@pytest.mark.parametrize("net", [POOLED, DEEP])
def test_smooth_grad_cam_plus_plus_agrees_with_numpy(net: Net, score: str, numerator: str) -> None:
    found = explainer(net, score=score, numerator=numerator, **SMOOTH)(X)
    expected = [
        run(
            "smooth-grad-cam++",
            smoothed_quantities(net, x, top_class_weights(net, x), 7, 0.2, 3, score),
            numerator=numerator,
        )
        for x in X
    ]
    assert_same_map(found.layer_maps, np.concatenate(expected))


def test_exp_differs_from_logit_and_d1_from_d2() -> None:
    settings: tuple[dict[str, Any], ...] = ({}, {"score": "exp"}, {"numerator": "d1"})
    maps = [explainer(DEEP, **each, **SMOOTH)(X[:1]).layer_maps for each in settings]
    for i, j in ((0, 1), (0, 2), (1, 2)):
        assert not np.allclose(maps[i] / maps[i].max(), maps[j] / maps[j].max(), rtol=1e-3)


def test_sigma_sets_absolute_noise() -> None:
    spread = float(X[0].max() - X[0].min())
    given = explainer(DEEP, sigma=0.2 * spread, samples=7, seed=3)(X[:1])
    assert_same_map(given.layer_maps, explainer(DEEP, **SMOOTH)(X[:1]).layer_maps)


def test_mean_activation_agrees_with_numpy() -> None:
    found = explainer(DEEP, activation="mean", **SMOOTH)(X[:1]).layer_maps
    given = smoothed_quantities(DEEP, X[0], top_class_weights(DEEP, X[0]), 7, 0.2, 3)
    copies = noisy(X[0], 0.2 * (X[0].max() - X[0].min()), 7, 3)
    given["activation"] = np.mean(DEEP.features(copies), axis=0, keepdims=True)
    assert_same_map(found, run("smooth-grad-cam++", given))


@pytest.mark.parametrize("chunk", [1, 3, 6, 7, 100])
@pytest.mark.parametrize("settings", [{}, {"score": "exp"}, {"activation": "mean"}])
def test_chunk_does_not_change_map(settings: dict[str, Any], chunk: int) -> None:
    found = explainer(DEEP, chunk=chunk, **settings, **SMOOTH)(X[:2]).layer_maps
    assert_same_map(found, explainer(DEEP, **settings, **SMOOTH)(X[:2]).layer_maps)


def test_same_seed_gives_same_map() -> None:
    maps = [explainer(DEEP, seed=seed, samples=4)(X[:1]).maps for seed in (0, 0, 1)]
    np.testing.assert_array_equal(maps[0], maps[1])
    assert not np.allclose(maps[0], maps[2], rtol=1e-3)


def test_number_of_samples_changes_map() -> None:
    few, many = (explainer(DEEP, samples=n)(X[:1]).maps for n in (2, 9))
    assert not np.allclose(few, many, rtol=1e-3)


def test_single_sample_without_noise_equals_grad_cam_plus_plus() -> None:
    found = explainer(DEEP, samples=1, noise=0)(X).maps
    np.testing.assert_allclose(found, explainer(DEEP, "grad-cam++")(X).maps, rtol=1e-6)


# Where the gradient does not depend on the image


def count(net: Net, **given: Any) -> tuple[Any, int]:
    """The explanation, and how many inputs the session ran for it."""
    made = explainer(net, chunk=8, cache=False, **given)  # all in one session
    session, ran = made.runner.batches.session, [0]
    real = session.run

    def counted(outputs: Any, feeds: Any) -> Any:
        ran[0] += max(len(each) for each in feeds.values() if np.ndim(each))
        return real(outputs, feeds)

    session.run = counted  # type: ignore[method-assign]
    return made(X[:1]), ran[0]


def test_constant_gradient_is_run_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    short, passes = count(POOLED, **SMOOTH)
    assert passes == 1
    assert any("does not depend on the image" in each for each in short.notices)
    monkeypatch.setattr("onnxcam.rewrite.planner.depends_on", lambda *given: True)
    whole, passes = count(POOLED, **SMOOTH)
    assert passes == 8
    assert not whole.notices
    np.testing.assert_allclose(short.maps, whole.maps, rtol=1e-5)


@pytest.mark.parametrize("settings", [{"score": "exp"}, {"activation": "mean"}])
def test_settings_that_vary_by_sample_run_all_samples(
    monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any]
) -> None:
    found, passes = count(POOLED, **settings, **SMOOTH)
    assert passes == 1 + 7
    assert not found.notices
    monkeypatch.setattr("onnxcam.rewrite.planner.depends_on", lambda *given: True)
    np.testing.assert_allclose(found.maps, count(POOLED, **settings, **SMOOTH)[0].maps, rtol=1e-5)


def test_exp_score_runs_samples_twice() -> None:
    """The weights are known when all were run."""
    assert count(DEEP, score="exp", **SMOOTH)[1] == 1 + 2 * 7


def test_noise_is_transferred_to_device_once(monkeypatch: pytest.MonkeyPatch) -> None:
    placed: list[int] = []

    def place(session: Session, array: Any) -> Any:
        placed.append(len(array))
        return ort.OrtValue.ortvalue_from_numpy(array)

    expected = explainer(DEEP, chunk=4, **SMOOTH)(X).maps
    monkeypatch.setattr(Session, "to_device", place)
    found = explainer(DEEP, chunk=4, **SMOOTH)(X).maps
    assert placed == [4, 3]  # for all of the pictures
    np.testing.assert_array_equal(found, expected)


def test_varying_gradient_runs_all_samples() -> None:
    assert count(DEEP, **SMOOTH)[1] == 8
    assert count(POOLED, layer="early", **SMOOTH)[1] == 8


def test_constant_gradient_depends_on_target() -> None:
    made = explainer(POOLED, "grad-cam")
    for target in (1, 4, 1):
        expected = run("grad-cam", clean_quantities(POOLED, X[0], np.eye(CLASSES)[target]))
        assert_same_map(made(X[:1], target).layer_maps, expected)


# Targets and scores


def test_contrast_explains_difference_of_classes() -> None:
    found = explainer(DEEP, "grad-cam")(X[:1], target="3-0-2")
    weights = np.array([-0.5, 0, -0.5, 1, 0])
    assert_same_map(found.layer_maps, run("grad-cam", clean_quantities(DEEP, X[0], weights)))
    logits = DEEP.logits(DEEP.features(X[:1]))[0]
    np.testing.assert_allclose(found.scores, [logits @ weights], rtol=1e-5)
    assert (found.indices, found.target_specs) == ((3,), ("3-0-2",))
    assert found.targets == ("class 3 - class 0, class 2",)


@pytest.mark.parametrize("method", ["grad-cam", "smooth-grad-cam++"])
@pytest.mark.parametrize("net", [POOLED, DEEP])
def test_probability_is_differentiated_through_softmax(net: Net, method: str) -> None:
    smooth = SMOOTH if method.startswith("smooth") else {}
    found = explainer(net, method, score="probability", **smooth)(X[:1], target=1)
    copies = noisy(X[0], 0.2 * (X[0].max() - X[0].min()), 7, 3) if smooth else X[:1]
    features = net.features(copies)
    p = np.exp(net.logits(features))
    p /= p.sum(axis=1, keepdims=True)
    g = net.slope(features, p[:, [1]] * (np.eye(CLASSES)[1] - p))  # dp_1/dz = p_1 (e_1 - p)
    given = {"activation": net.features(X[:1]), "gradient": g}
    given |= {f"d{k}": np.mean(g**k, axis=0)[None] for k in (1, 2, 3)}
    assert_same_map(found.layer_maps, run(method, given))
    assert 0 < found.scores[0] < 1


def test_probability_without_softmax_is_refused() -> None:
    bare = Net(head=POOLED.head.split("    probabilities")[0], outputs="float[N, 5] logits")
    with pytest.raises(ModelError, match="'logits' does not end in Softmax or Sigmoid"):
        explainer(bare, "grad-cam", score="probability")
    assert len(explainer(bare, "grad-cam")(X[:1])) == 1


def test_exp_score_without_samples_is_refused() -> None:
    for method in ("cam", "grad-cam", "grad-cam++"):
        with pytest.raises(
            SettingError, match=r"score='exp' weighs .* do: smooth-grad-cam\+\+; for"
        ):
            explainer(DEEP, method, score="exp")


def test_targets_may_differ_between_images() -> None:
    made = explainer(DEEP, **SMOOTH)
    found = made(list(X), [0, "top2", "2-1"])
    specs: list[int | str] = [0, "top2", "2-1"]
    alone = [made(x, spec) for x, spec in zip(X, specs, strict=True)]
    assert_same_map(found.maps, np.concatenate([each.maps for each in alone]))
    np.testing.assert_allclose(found.scores, [each.scores[0] for each in alone], rtol=1e-6)
    assert found.targets == tuple(each.targets[0] for each in alone)


def test_image_order_does_not_matter() -> None:
    made = explainer(DEEP, **SMOOTH)
    np.testing.assert_array_equal(made(X[::-1]).maps, made(X).maps[::-1])


# Layers and parts of layers


@pytest.mark.parametrize("fuse", ["max", "mean"])
def test_several_layers_are_fused(fuse: str) -> None:
    both: Saliency = explainer(DEEP, "grad-cam++", layer=["early", "features"], fuse=fuse)(
        X
    ).layer_maps
    each = [
        explainer(DEEP, "grad-cam++", layer=name)(X).layer_maps for name in ("early", "features")
    ]
    assert both.shape == (3, 8, 8)
    assert_same_map(both, fuse_maps(each, fuse))


def test_explanation_names_layers() -> None:
    found = explainer(DEEP, "grad-cam", layer=["early", "features", "early"])(X[:1])
    assert found.layers == ("early", "features")
    assert explainer(DEEP, "grad-cam", layer="auto")(X[:1]).layers == ("features",)


def test_channels_and_region_select_part_of_layer() -> None:
    found = explainer(DEEP, channels="1,4-5", region="1:3,0:2", **SMOOTH)(X[:1])
    given = smoothed_quantities(DEEP, X[0], top_class_weights(DEEP, X[0]), 7, 0.2, 3)
    zeroed = {name: np.zeros_like(each) for name, each in given.items()}
    for name, each in given.items():
        zeroed[name][:, [1, 4, 5], 1:3, 0:2] = each[:, [1, 4, 5], 1:3, 0:2]
    assert_same_map(found.layer_maps, run("smooth-grad-cam++", zeroed))


def test_progress_sums_to_passes() -> None:
    for net, method in (
        (DEEP, "smooth-grad-cam++"),
        (POOLED, "smooth-grad-cam++"),
        (DEEP, "grad-cam"),
    ):
        made = explainer(net, method, chunk=3)
        told: list[int] = []
        made(X, progress=told.append)
        assert sum(told) == 3 * made.passes, (net, method)
