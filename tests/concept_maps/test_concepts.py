"""Concepts of small models, compared with their NumPy twins."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper, numpy_helper

from onnxcam import Explainer
from onnxcam.bundled import bundled_model
from onnxcam.concept_maps.concepts import Concepts, format_effect
from onnxcam.concept_maps.find import concepts as find_concepts
from onnxcam.concept_maps.tail import class_derivatives, in_layout, open_tail
from onnxcam.errors import ImageError, OnnxcamError, OutputError, SettingError
from onnxcam.explain.result_files import verified_manifest
from onnxcam.explain.stored_result import read_result
from onnxcam.specs import Layer
from tests.support.nets import ANY_SIZE, DEEP, FIXED, NHWC, POOLED, SKIP, Net, random_images

ROOT = Path(__file__).resolve().parents[2]
IMAGES = random_images(6)


def concepts_of(net: Net, images: Any = IMAGES, **arguments: Any) -> Concepts:
    arguments = {"device": "cpu", "preprocess": "unit", "cache": False, "count": 3, **arguments}
    return find_concepts(net.content(), images, "features", **arguments)


def images_of(net: Net) -> Any:
    return np.moveaxis(IMAGES, 1, 3) if net is NHWC else IMAGES


@pytest.mark.parametrize(
    "net", [POOLED, DEEP, NHWC, FIXED, SKIP], ids=["pooled", "deep", "nhwc", "fixed", "skip"]
)
def test_maps_and_directions_approximate_the_activations(net: Net) -> None:
    result = concepts_of(net, images_of(net), count=5)
    features = net.features(IMAGES)
    maps = np.stack([result.maps(number) for number in range(6)])
    assert maps.shape == (6, 5, 4, 4)
    rest = features - np.einsum("nkhw,kc->nchw", maps, result.directions)
    error = np.linalg.norm(rest) / np.linalg.norm(features)
    assert error == pytest.approx(result.error, rel=1e-3)
    assert error < 0.25
    parts = np.einsum("nkhw,kc->k", maps, result.directions)
    np.testing.assert_allclose(result.shares, parts / features.sum(), rtol=1e-4)
    assert result.clipped == 0.0


@pytest.mark.parametrize("scale", [1.0, 1e-4])  # of logits, and of a model with small scores
def test_negligible_class_scores_are_no_evidence(scale: float) -> None:
    effects = scale * np.array(
        [[2.0, -1.0, 0.004, -0.004, 0.0], [0.004, -0.004, 0.0, 0.0, 0.0], [0.02, 0, -0.02, 0, 0]]
    )
    result = replace(concepts_of(POOLED), effects=effects)
    listed = [
        [[index for index, _ in result.classes(concept, raises=raises)] for raises in (True, False)]
        for concept in range(3)
    ]
    assert listed == [[[0], [1]], [[], []], [[0], [2]]]
    assert [len(result.record(1)[word]) for word in ("for", "against")] == [0, 0]
    assert replace(result, effects=0 * effects).classes(0) == []


@pytest.mark.parametrize(
    ("effect", "text"), [(2.345, "+2.35"), (-0.5, "-0.50"), (0.004, "+0.004"), (-2e-5, "-2e-05")]
)
def test_class_score_is_written_with_a_digit_that_is_not_0(effect: float, text: str) -> None:
    assert format_effect(effect, 2) == text


def test_best_images_have_the_largest_mean_square() -> None:
    result = concepts_of(DEEP, best=3)
    for concept, numbers in enumerate(result.best):
        strengths = [float(np.square(result.maps(n)[concept]).mean()) for n in range(6)]
        assert list(numbers) == sorted(range(6), key=lambda n: -strengths[n])[: len(numbers)]
        assert len(numbers) == 3


@pytest.mark.parametrize(
    "net", [POOLED, DEEP, NHWC, FIXED], ids=["pooled", "deep", "nhwc", "fixed"]
)
def test_class_scores_are_gradient_times_concept(net: Net) -> None:
    result = concepts_of(net, images_of(net), best=2)
    features = net.features(IMAGES)
    expected = np.zeros((3, 5))
    for label in range(5):
        slope = net.slope(features, np.eye(5)[label])
        for concept, numbers in enumerate(result.best):
            for n in numbers:
                part = result.maps(n)[concept] * result.directions[concept][:, None, None]
                expected[concept, label] += np.sum(slope[n] * part) / len(numbers)
    assert result.effects is not None
    np.testing.assert_allclose(result.effects, expected, rtol=0.02, atol=1e-3)


def test_class_scores_leave_what_goes_around_the_layer() -> None:
    """The score reads `side` besides `features`: its mean is the score of the last four classes."""
    tail = open_tail(SKIP.content(), "features", device="cpu", cache=False).runner
    parts = random_images(2, (6, 4, 4), seed=3)
    derivatives = class_derivatives(tail, IMAGES[:1], parts)
    np.testing.assert_allclose(derivatives[:, :6], parts.mean(axis=(2, 3)), atol=1e-4)
    np.testing.assert_allclose(derivatives[:, 6:], 0.0, atol=1e-4)


def quantized(net: Net, scale: float) -> bytes:
    """The net with logits that are rounded to multiples of the scale."""
    proto = net.proto()
    output = proto.graph.output[0].name
    last = next(node for node in proto.graph.node if output in node.output)
    last.output[0] = "exact"
    numbers = {"scale": np.float32(scale), "zero": np.int8(0)}
    proto.graph.initializer.extend(
        numpy_helper.from_array(np.array(number), name) for name, number in numbers.items()
    )
    names = ["scale", "zero"]
    proto.graph.node.append(helper.make_node("QuantizeLinear", ["exact", *names], ["rounded"]))
    proto.graph.node.append(helper.make_node("DequantizeLinear", ["rounded", *names], [output]))
    return bytes(proto.SerializeToString())


def test_class_scores_of_quantized_model_are_right_up_to_its_rounding() -> None:
    parts, scale = random_images(3, (6, 4, 4), seed=3), 0.05
    exact, rounded = (
        class_derivatives(
            open_tail(content, "features", device="cpu", cache=False).runner, IMAGES[:1], parts
        )
        for content in (POOLED.content(), quantized(POOLED, scale))
    )
    np.testing.assert_allclose(rounded, exact, atol=scale / 2 + 1e-4)
    assert np.abs(exact).max() > 2 * scale


@pytest.mark.parametrize(
    ("axis", "tokens", "shape"),
    [
        (1, None, (1, 6, 3, 5)),
        (3, None, (1, 3, 5, 6)),
        (2, (1, 2), (1, 18, 6)),
        (1, (0, 1), (1, 6, 16)),
    ],
    ids=["nchw", "nhwc", "ntc", "nct"],
)
def test_layout_is_the_opposite_of_channels_first(
    axis: int, tokens: tuple[int, int] | None, shape: tuple[int, ...]
) -> None:
    before, after = tokens or (0, 0)
    cells = None if tokens is None else (3, 5)
    layer = Layer(
        "x",
        "",
        (None, *shape[1:]),
        axis,
        True,
        cells=cells,
        tokens_before=before,
        tokens_after=after,
    )
    maps = random_images(2, (6, 3, 5))
    values = in_layout(layer, maps, shape)
    assert values.shape == (2, *shape[1:])
    np.testing.assert_array_equal(layer.channels_first(values, 0.6, np.float32), maps)
    assert np.abs(values).sum() == pytest.approx(np.abs(maps).sum(), rel=1e-5)


def test_negative_activations_are_clipped_with_a_notice() -> None:
    result = find_concepts(
        DEEP.content(), IMAGES, "c2", count=2, device="cpu", cache=False, preprocess="unit"
    )
    assert 0.1 < result.clipped < 0.9
    notice = next(notice for notice in result.notices if "negative" in notice)
    assert notice.startswith(f"{100 * result.clipped:.0f} % of the activations at c2 are negative")


def test_same_seed_gives_same_concepts() -> None:
    first, second = concepts_of(DEEP, seed=3), concepts_of(DEEP, seed=3)
    np.testing.assert_array_equal(first.weights, second.weights)
    assert first.manifest() == second.manifest()


def test_images_that_fail_are_left_out(tmp_path: Path) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"none")
    errors: list[OnnxcamError] = []
    sources = [IMAGES[0], bad, *IMAGES[1:]]
    result = concepts_of(DEEP, sources, on_error=lambda _, error: errors.append(error))
    assert len(errors) == 1
    assert len(result.images) == 6
    alone = concepts_of(DEEP, [*IMAGES])
    np.testing.assert_allclose(result.effects, alone.effects, rtol=1e-4)  # type: ignore[arg-type]
    with pytest.raises(ImageError, match="bad"):
        concepts_of(DEEP, sources)
    with pytest.raises(ImageError, match="no images to find concepts in"):
        concepts_of(DEEP, [])


def test_image_that_is_not_there_is_named() -> None:
    with pytest.raises(ImageError, match=r"nowhere\.png: no such file"):
        find_concepts(bundled_model(), ["nowhere.png"], on_error=lambda path, error: None)


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(SettingError, match="best=0"):
        concepts_of(DEEP, best=0)
    with pytest.raises(SettingError, match="expected 1 to 6, as the layer has 6 channels"):
        concepts_of(DEEP, count=7)


def test_files_are_written_with_a_manifest_and_arrays(tmp_path: Path) -> None:
    result = concepts_of(POOLED)
    sheet = result.save(tmp_path / "out")
    manifest = json.loads(sheet.with_suffix(".json").read_text())
    assert [row["number"] for row in manifest["concepts"]] == [1, 2, 3]
    assert manifest["layers"] == ["features"]
    assert "method" not in manifest
    with np.load(sheet.with_suffix(".npz")) as arrays:
        np.testing.assert_array_equal(arrays["W"], result.weights)
        np.testing.assert_array_equal(arrays["H"], result.directions)
        assert arrays["grids"].tolist() == [[4, 4]] * 6
        assert arrays["class_scores"].shape == (3, 5)
    files = {
        "overlay": sheet,
        "map": sheet.with_suffix(".npz"),
        "manifest": sheet.with_suffix(".json"),
    }
    assert verified_manifest(files) is not None
    result.save(tmp_path / "out")  # its own files are replaced
    sheet.with_suffix(".json").unlink()
    with pytest.raises(OutputError, match="already exists"):
        result.save(tmp_path / "out")


def test_detector_has_maps_and_contributions_but_no_class_scores(tmp_path: Path) -> None:
    scene = ROOT / "models/detector/scene.png"
    result = find_concepts(
        ROOT / "models/shapes-detector.onnx", [scene], "relu_3", count=3, device="cpu"
    )
    assert result.effects is None
    assert any("maps but no class scores" in notice for notice in result.notices)
    assert result.record(0)["for"] == []
    result.save(tmp_path)
    parts = dict(result.contributions(scene, "heart").parts())
    explained = Explainer(ROOT / "models/shapes-detector.onnx", "grad-cam", "relu_3", device="cpu")
    assert sum(parts.values()) == pytest.approx(explained(scene, "heart").scores[0], abs=1e-5)


def test_class_scores_for_target_are_those_of_the_class() -> None:
    result = concepts_of(POOLED, target="2-4")
    assert result.effects is not None
    assert result.target_scores is not None
    expected = result.effects[:, 2] - result.effects[:, 4]
    np.testing.assert_allclose(result.target_scores, expected)
    assert concepts_of(POOLED).target_scores is None


def test_remainder_of_a_quantized_model_is_not_called_its_bias() -> None:
    names = []
    for content in (POOLED.content(), quantized(POOLED, 0.05)):
        result = find_concepts(content, IMAGES, "features", count=2, device="cpu")
        names.append(result.contributions(IMAGES[:1]).remainder_name)
    assert names == ["bias", "bias and nonlinearity"]


@pytest.mark.parametrize("spec", ["top1", "heart"])
def test_detector_has_no_class_scores_for_a_target(spec: str) -> None:
    arguments: Any = {"target": spec, "count": 2, "device": "cpu"}
    model, scene = ROOT / "models/shapes-detector.onnx", ROOT / "models/detector/scene.png"
    if spec == "top1":  # stands for no target
        assert find_concepts(model, scene, "relu_3", **arguments).target is None
        return
    with pytest.raises(SettingError, match="the class score of a concept needs a model with one"):
        find_concepts(model, scene, "relu_3", **arguments)


def test_detector_has_no_additive_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onnxcam.concept_maps.surrogate.require_boosting", lambda: None)
    monkeypatch.setattr("onnxcam.concept_maps.surrogate.LEAST_IMAGES", 1)
    model, scene = ROOT / "models/shapes-detector.onnx", ROOT / "models/detector/scene.png"
    result = find_concepts(model, scene, "relu_3", count=2, device="cpu")
    for spec in ("heart", "top1"):
        with pytest.raises(
            SettingError, match="an additive model needs a model with one score per"
        ):
            result.surrogate("gam", spec)


@pytest.mark.parametrize("name", ["channels", "region", "fuse", "top_channels"])
def test_argument_of_maps_is_refused_by_name(name: str) -> None:
    with pytest.raises(SettingError, match=f"{name}: is an argument of explanations only"):
        concepts_of(POOLED, **{name: 1})


# Contributions


def test_contributions_before_a_pooled_linear_head_are_exact() -> None:
    result, label = concepts_of(POOLED), 2
    parts = dict(result.contributions(IMAGES[1], label).parts())
    features = POOLED.features(IMAGES[1:2])
    weights, slope = POOLED.weights, POOLED.slope(features, np.eye(5)[label])[0]
    score = float(POOLED.logits(features)[0, label])
    assert sum(parts.values()) == pytest.approx(score, abs=1e-5)
    assert parts["bias"] == pytest.approx(float(weights["d"][label]), abs=1e-5)
    maps = result.maps(1)
    expected = np.einsum("chw,kc,khw->k", slope, result.directions, maps)
    values = [parts[f"concept {k}"] for k in (1, 2, 3)]
    np.testing.assert_allclose(values, expected, rtol=1e-2, atol=1e-4)
    rest = features[0] - np.einsum("khw,kc->chw", maps, result.directions)
    assert parts["not in the concepts"] == pytest.approx(float(np.sum(slope * rest)), abs=1e-3)


@pytest.mark.parametrize("target", ["top1", "1-3", 4])
def test_contributions_elsewhere_have_a_remainder(target: Any) -> None:
    result = concepts_of(DEEP)
    explained = result.contributions(IMAGES[0], target)
    parts = dict(explained.parts())
    features = DEEP.features(IMAGES[:1])
    logits = DEEP.logits(features)
    linear = float(np.sum(DEEP.slope(features, explained.target.weights) * features))
    score = float(logits[0] @ explained.target.weights)
    assert explained.score == pytest.approx(score, abs=1e-5)
    assert sum(parts.values()) == pytest.approx(score, abs=1e-5)
    assert parts["bias and nonlinearity"] == pytest.approx(score - linear, abs=1e-4)


def test_contributions_are_written_with_a_manifest(tmp_path: Path) -> None:
    result = concepts_of(POOLED, labels=["ant", "bee, honeybee", "cat", "dog", "elk"])
    chart = result.contributions(IMAGES[0], "cat").save(tmp_path)
    assert chart.name == "array-0.contributions.png"
    manifest = json.loads(chart.with_suffix(".json").read_text())
    assert manifest["target"]["name"] == "cat"
    total = sum(row["value"] for row in manifest["contributions"])
    assert total == pytest.approx(manifest["target"]["score"], abs=1e-6)


def test_manifest_is_no_result_to_repeat(tmp_path: Path) -> None:
    sheet = concepts_of(POOLED).save(tmp_path)
    with pytest.raises(SettingError, match="is of another command; expected the"):
        read_result(sheet.with_suffix(".json"))


def test_images_of_different_sizes_have_grids_of_their_own() -> None:
    images = [random_images(1)[0], random_images(1, (3, 6, 10))[0], random_images(1, seed=1)[0]]
    result = concepts_of(ANY_SIZE, images, best=3)
    assert result.grids == ((4, 4), (3, 5), (4, 4))
    for number, image in enumerate(images):
        features = ANY_SIZE.features(image[None])[0]
        rest = features - np.einsum("khw,kc->chw", result.maps(number), result.directions)
        assert np.linalg.norm(rest) < 0.7 * np.linalg.norm(features)
    assert result.effects is not None
    assert result.sheet().width > 0
    assert result.contributions(images[1]).maps.shape == (3, 3, 5)
