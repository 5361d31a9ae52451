"""End to end, maps agree with NumPy: features and gradients of small nets, the formula, the interpolation."""

from dataclasses import replace
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

from onnxcam.arrays import Saliency
from onnxcam.errors import ModelError, SettingError, UnknownNameError
from onnxcam.methods.postprocess import fuse_maps, resize_bilinear
from onnxcam.runtime.session import Session
from tests.explain.support.explained import (
    X,
    assert_same_map,
    clean_quantities,
    make_explainer,
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
    forward, backward = (net.logits(features + h * direction)[0] @ weights for h in (1e-6, -1e-6))
    slope = np.sum(net.slope(features, weights) * direction)
    np.testing.assert_allclose((forward - backward) / 2e-6, slope, rtol=1e-6)


@pytest.mark.parametrize("method", ["grad-cam", "grad-cam++"])
@pytest.mark.parametrize("net", [POOLED, DEEP])
def test_methods_of_one_pass_agree_with_numpy(net: Net, method: str) -> None:
    explanation = make_explainer(net, method)(X)
    expected = np.concatenate(
        [run(method, clean_quantities(net, x, top_class_weights(net, x))) for x in X]
    )
    assert_same_map(explanation.layer_maps, expected)
    assert_same_map(explanation.maps, resize_bilinear(expected, 8, 8))
    logits = net.logits(net.features(X))
    np.testing.assert_allclose(explanation.scores, logits.max(axis=1), rtol=1e-5)
    assert explanation.indices == tuple(np.argmax(logits, axis=1))
    assert explanation.maps.dtype == explanation.layer_maps.dtype == np.float32


def test_cam_uses_rows_of_linear_layer() -> None:
    explanation = make_explainer(POOLED, "cam")(X[:1], target=2)
    activation = POOLED.features(X[:1])
    row = POOLED.weights["v"][2].astype(np.float64)
    assert_same_map(
        explanation.layer_maps, np.maximum(np.einsum("k,nkhw->nhw", row, activation), 0)
    )


def test_cam_is_refused_for_another_head() -> None:
    with pytest.raises(ModelError, match=r"'features'.*depends on the image; use grad-cam"):
        make_explainer(DEEP, "cam")(X[:1])


@pytest.mark.parametrize("numerator", ["d2", "d1"])
@pytest.mark.parametrize("score", ["logit", "exp"])
@pytest.mark.parametrize("net", [POOLED, DEEP])
def test_smooth_grad_cam_plus_plus_agrees_with_numpy(net: Net, score: str, numerator: str) -> None:
    explanation = make_explainer(net, score=score, numerator=numerator, **SMOOTH)(X)
    expected = [
        run(
            "smooth-grad-cam++",
            smoothed_quantities(net, x, top_class_weights(net, x), 7, 0.2, 3, score),
            numerator=numerator,
        )
        for x in X
    ]
    assert_same_map(explanation.layer_maps, np.concatenate(expected))


def test_exp_differs_from_logit_and_d1_from_d2() -> None:
    settings: tuple[dict[str, Any], ...] = ({}, {"score": "exp"}, {"numerator": "d1"})
    maps = [make_explainer(DEEP, **changed, **SMOOTH)(X[:1]).layer_maps for changed in settings]
    for i, j in ((0, 1), (0, 2), (1, 2)):
        assert not np.allclose(maps[i] / maps[i].max(), maps[j] / maps[j].max(), rtol=1e-3)


def test_sigma_sets_absolute_noise() -> None:
    spread = float(X[0].max() - X[0].min())
    source = make_explainer(DEEP, sigma=0.2 * spread, samples=7, seed=3)(X[:1])
    assert_same_map(source.layer_maps, make_explainer(DEEP, **SMOOTH)(X[:1]).layer_maps)


def test_mean_activation_agrees_with_numpy() -> None:
    actual = make_explainer(DEEP, activation="mean", **SMOOTH)(X[:1]).layer_maps
    quantities = smoothed_quantities(DEEP, X[0], top_class_weights(DEEP, X[0]), 7, 0.2, 3)
    copies = noisy(X[0], 0.2 * (X[0].max() - X[0].min()), 7, 3)
    quantities["activation"] = np.mean(DEEP.features(copies), axis=0, keepdims=True)
    assert_same_map(actual, run("smooth-grad-cam++", quantities))


@pytest.mark.parametrize("chunk", [1, 3, 6, 7, 100])
@pytest.mark.parametrize("settings", [{}, {"score": "exp"}, {"activation": "mean"}])
def test_chunk_does_not_change_map(settings: dict[str, Any], chunk: int) -> None:
    actual = make_explainer(DEEP, chunk=chunk, **settings, **SMOOTH)(X[:2]).layer_maps
    assert_same_map(actual, make_explainer(DEEP, **settings, **SMOOTH)(X[:2]).layer_maps)


def test_same_seed_gives_same_map() -> None:
    maps = [make_explainer(DEEP, seed=seed, samples=4)(X[:1]).maps for seed in (0, 0, 1)]
    np.testing.assert_array_equal(maps[0], maps[1])
    assert not np.allclose(maps[0], maps[2], rtol=1e-3)


def test_number_of_samples_changes_map() -> None:
    few, several = (make_explainer(DEEP, samples=n)(X[:1]).maps for n in (2, 9))
    assert not np.allclose(few, several, rtol=1e-3)


def test_single_sample_without_noise_equals_grad_cam_plus_plus() -> None:
    actual = make_explainer(DEEP, samples=1, noise=0)(X).maps
    np.testing.assert_allclose(actual, make_explainer(DEEP, "grad-cam++")(X).maps, rtol=1e-6)


# Where the gradient does not depend on the image

UNPROVEN = replace(  # the same function as POOLED, but the graph does not prove that its gradient is constant
    POOLED,
    head=POOLED.head.replace(
        "flat = Flatten(pooled)", "same = Elu<alpha = 1.0>(pooled) flat = Flatten(same)"
    ),
)


def count(net: Net, **options: Any) -> tuple[Any, int]:
    """The explanation, and the number of inputs that the session ran for it."""
    explainer = make_explainer(net, chunk=8, cache=False, **options)  # all in one session
    session, ran = explainer.runner.main.session, [0]
    real = session.run

    def count_run(outputs: Any, feeds: Any) -> Any:
        ran[0] += max(len(array) for array in feeds.values() if np.ndim(array))
        return real(outputs, feeds)

    session.run = count_run  # type: ignore[method-assign]
    return explainer(X[:1]), ran[0]


def test_constant_gradient_is_run_once() -> None:
    short, passes = count(POOLED, **SMOOTH)
    assert passes == 1
    assert any("does not depend on the image" in notice for notice in short.notices)
    full, passes = count(UNPROVEN, **SMOOTH)
    assert passes == 8
    assert not full.notices
    np.testing.assert_allclose(short.maps, full.maps, rtol=1e-5)


@pytest.mark.parametrize("settings", [{"score": "exp"}, {"activation": "mean"}])
def test_settings_that_vary_by_sample_run_all_samples(settings: dict[str, Any]) -> None:
    explanation, passes = count(POOLED, **settings, **SMOOTH)
    assert passes == 1 + 7
    assert not explanation.notices
    expected, _ = count(UNPROVEN, **settings, **SMOOTH)
    np.testing.assert_allclose(explanation.maps, expected.maps, rtol=1e-5)


def test_exp_score_runs_samples_twice() -> None:
    """The weights are known only after all samples were run."""
    assert count(DEEP, score="exp", **SMOOTH)[1] == 1 + 2 * 7


def test_noise_is_transferred_to_device_once(monkeypatch: pytest.MonkeyPatch) -> None:
    transferred: list[int] = []

    def transfer(session: Session, array: Any) -> Any:
        transferred.append(len(array))
        return ort.OrtValue.ortvalue_from_numpy(array)

    expected = make_explainer(DEEP, chunk=4, **SMOOTH)(X).maps
    monkeypatch.setattr(Session, "to_device", transfer)
    actual = make_explainer(DEEP, chunk=4, **SMOOTH)(X).maps
    assert transferred == [4, 3]  # once for all images
    np.testing.assert_array_equal(actual, expected)


def test_varying_gradient_runs_all_samples() -> None:
    assert count(DEEP, **SMOOTH)[1] == 8
    assert count(POOLED, layer="early", **SMOOTH)[1] == 8


def test_constant_gradient_depends_on_target() -> None:
    explainer = make_explainer(POOLED, "grad-cam")
    for target in (1, 4, 1):
        expected = run("grad-cam", clean_quantities(POOLED, X[0], np.eye(CLASSES)[target]))
        assert_same_map(explainer(X[:1], target).layer_maps, expected)


# Targets and scores


def test_contrast_explains_difference_of_classes() -> None:
    explanation = make_explainer(DEEP, "grad-cam")(X[:1], target="3-0-2")
    weights = np.array([-0.5, 0, -0.5, 1, 0])
    assert_same_map(explanation.layer_maps, run("grad-cam", clean_quantities(DEEP, X[0], weights)))
    logits = DEEP.logits(DEEP.features(X[:1]))[0]
    np.testing.assert_allclose(explanation.scores, [logits @ weights], rtol=1e-5)
    assert (explanation.indices, explanation.target_specs) == ((3,), ("3-0-2",))
    assert explanation.targets == ("class 3 - class 0, class 2",)


@pytest.mark.parametrize("method", ["grad-cam", "smooth-grad-cam++"])
@pytest.mark.parametrize("net", [POOLED, DEEP])
def test_probability_is_differentiated_through_softmax(net: Net, method: str) -> None:
    smooth = SMOOTH if method.startswith("smooth") else {}
    explanation = make_explainer(net, method, score="probability", **smooth)(X[:1], target=1)
    copies = noisy(X[0], 0.2 * (X[0].max() - X[0].min()), 7, 3) if smooth else X[:1]
    features = net.features(copies)
    p = np.exp(net.logits(features))
    p /= p.sum(axis=1, keepdims=True)
    g = net.slope(features, p[:, [1]] * (np.eye(CLASSES)[1] - p))  # dp_1/dz = p_1 (e_1 - p)
    quantities = {"activation": net.features(X[:1]), "gradient": g}
    quantities |= {f"d{k}": np.mean(g**k, axis=0)[None] for k in (1, 2, 3)}
    assert_same_map(explanation.layer_maps, run(method, quantities))
    assert 0 < explanation.scores[0] < 1


def test_probability_without_softmax_is_refused() -> None:
    bare = Net(head=POOLED.head.split("    probabilities")[0], outputs="float[N, 5] logits")
    with pytest.raises(ModelError, match="'logits' does not end in Softmax or Sigmoid"):
        make_explainer(bare, "grad-cam", score="probability")
    assert len(make_explainer(bare, "grad-cam")(X[:1])) == 1


def test_exp_score_without_samples_is_refused() -> None:
    for method in ("cam", "grad-cam", "grad-cam++"):
        with pytest.raises(
            SettingError, match=r"score='exp' weights .* with samples: smooth-grad-cam\+\+"
        ):
            make_explainer(DEEP, method, score="exp")


def test_targets_may_differ_between_images() -> None:
    explainer = make_explainer(DEEP, **SMOOTH)
    explanation = explainer(list(X), [0, "top2", "2-1"])
    specs: list[int | str] = [0, "top2", "2-1"]
    single = [explainer(x, spec) for x, spec in zip(X, specs, strict=True)]
    assert_same_map(explanation.maps, np.concatenate([result.maps for result in single]))
    np.testing.assert_allclose(
        explanation.scores, [result.scores[0] for result in single], rtol=1e-6
    )
    assert explanation.targets == tuple(result.targets[0] for result in single)


def test_image_order_does_not_matter() -> None:
    explainer = make_explainer(DEEP, **SMOOTH)
    np.testing.assert_array_equal(explainer(X[::-1]).maps, explainer(X).maps[::-1])


# Layers and parts of layers


@pytest.mark.parametrize("fuse", ["max", "mean"])
def test_several_layers_are_fused(fuse: str) -> None:
    both: Saliency = make_explainer(DEEP, "grad-cam++", layer=["early", "features"], fuse=fuse)(
        X
    ).layer_maps
    layers = [
        make_explainer(DEEP, "grad-cam++", layer=name)(X).layer_maps
        for name in ("early", "features")
    ]
    assert both.shape == (3, 8, 8)
    assert_same_map(both, fuse_maps(layers, fuse))


def test_explanation_names_layers() -> None:
    explanation = make_explainer(DEEP, "grad-cam", layer=["early", "features", "early"])(X[:1])
    assert explanation.layers == ("early", "features")
    assert make_explainer(DEEP, "grad-cam", layer="auto")(X[:1]).layers == ("features",)


@pytest.mark.parametrize("layer", [2, "2", "#2", np.int64(2), "earl", ["early", 2], "early,#2"])
def test_layer_is_named_by_number_part_or_list(layer: Any) -> None:
    explainer = make_explainer(DEEP, "grad-cam", layer=layer)
    assert [(layer.name, layer.number) for layer in explainer.plan.layers] == [("early", 2)]


@pytest.mark.parametrize("layer", [0, 5, -1, True, "9"])
def test_layer_number_out_of_range_is_error(layer: Any) -> None:
    with pytest.raises(UnknownNameError, match=r"onnxcam layers --all"):
        make_explainer(DEEP, "grad-cam", layer=layer)


def test_channels_and_region_select_part_of_layer() -> None:
    explanation = make_explainer(DEEP, channels="1,4-5", region="1:3,0:2", **SMOOTH)(X[:1])
    source = smoothed_quantities(DEEP, X[0], top_class_weights(DEEP, X[0]), 7, 0.2, 3)
    zeroed = {name: np.zeros_like(array) for name, array in source.items()}
    for name, array in source.items():
        zeroed[name][:, [1, 4, 5], 1:3, 0:2] = array[:, [1, 4, 5], 1:3, 0:2]
    assert_same_map(explanation.layer_maps, run("smooth-grad-cam++", zeroed))


def test_channels_and_region_of_call_apply_to_that_call_only() -> None:
    expected = make_explainer(DEEP, "grad-cam++", channels="1,4-5", region="1:3,0:2")(X[:1])
    explainer = make_explainer(DEEP, "grad-cam++", channels=[0])
    before = explainer(X[:1]).maps
    explanation = explainer(X[:1], channels="1,4-5", region="1:3,0:2")
    np.testing.assert_array_equal(explanation.maps, expected.maps)
    assert not np.array_equal(explanation.maps, before)
    assert explanation.manifest()["subset"] == {"channels": "1,4-5", "region": "1:3,0:2"}
    np.testing.assert_array_equal(explainer(X[:1]).maps, before)
    with pytest.raises(SettingError, match="channel 6"):
        explainer(X[:1], channels=[6])


def test_device_is_that_of_session() -> None:
    assert str(make_explainer(DEEP, "grad-cam").device) == "cpu"


def test_progress_sums_to_passes() -> None:
    for net, method in (
        (DEEP, "smooth-grad-cam++"),
        (POOLED, "smooth-grad-cam++"),
        (DEEP, "grad-cam"),
    ):
        explainer = make_explainer(net, method, chunk=3)
        reported: list[int] = []
        explainer(X, progress=reported.append)
        assert sum(reported) == 3 * explainer.passes, (net, method)
