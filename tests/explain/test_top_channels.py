"""The feature maps that weigh most in a map: their parts, shares and weights, and the files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from onnxcam import Explainer
from onnxcam.errors import SettingError
from onnxcam.explain.formula import BoundFormula
from onnxcam.explain.result_files import is_result, result_files, verified_manifest
from onnxcam.explain.top_channels import rank_channels
from onnxcam.methods import METHODS
from onnxcam.methods.subset import Subset, apply_subset
from tests.support.nets import DEEP, NHWC, POOLED, Net, random_images

IMAGES = random_images(3)
PARTED = [name for name, method in METHODS.items() if method.sums_channels]


def make_explainer(net: Net = DEEP, method: str = "grad-cam", **options: Any) -> Explainer:
    defaults: Any = {"layer": "features", "device": "cpu", "top_channels": 4, "cache": False}
    return Explainer(net.content(), method, **(defaults | options))


def positive_quantities(method: str) -> dict[str, Any]:
    draw = np.random.default_rng(0)
    names = {*METHODS[method].parameters, "activation"}
    return {name: draw.uniform(0.1, 1, (1, 5, 3, 4)) for name in names}


def bound(method: str) -> BoundFormula:
    row = METHODS[method]
    return BoundFormula(row, row.resolve_settings({}), Subset(None, None))


@pytest.mark.parametrize("method", PARTED)
def test_map_is_proportional_to_the_sum_of_the_parts(method: str) -> None:
    """Of quantities that are positive, so that no ReLU cuts anything off."""
    quantities, formula = positive_quantities(method), bound(method)
    top = rank_channels(formula, quantities, 5)
    expected = formula.compute(formula.select(quantities)).saliency[0]
    parts = top.maps.sum(axis=0)
    np.testing.assert_allclose(parts / parts.max(), expected / expected.max(), rtol=1e-6)
    assert sorted(top.numbers) == [0, 1, 2, 3, 4]
    assert top.shares.sum() == pytest.approx(1.0)
    assert (np.diff(top.shares) <= 0).all()


@pytest.mark.parametrize("method", ["eigen-cam", "kpca-cam", "eigen-grad-cam"])
def test_map_of_components_is_no_sum_of_parts(method: str) -> None:
    formula = bound(method)
    quantities = formula.select(positive_quantities(method))
    parts = [formula.compute(apply_subset(quantities, [k], None)).saliency[0] for k in range(5)]
    expected = formula.compute(quantities).saliency[0]
    total = np.sum(parts, axis=0)
    assert not np.allclose(total / total.max(), expected / expected.max(), rtol=1e-2)
    assert not METHODS[method].sums_channels


@pytest.mark.parametrize("net", [POOLED, DEEP, NHWC], ids=["pooled", "deep", "nhwc"])
def test_weights_and_shares_of_grad_cam_are_known(net: Net) -> None:
    images = np.moveaxis(IMAGES, 1, 3) if net is NHWC else IMAGES
    explanation = make_explainer(net)(images, 2)
    features = net.features(IMAGES)
    weights = net.slope(features, np.eye(5)[2]).mean(axis=(2, 3))
    sums = np.maximum(weights, 0) * features.sum(axis=(2, 3))
    for n, top in enumerate(explanation.channels):
        order = np.argsort(-sums[n], kind="stable")[:4]
        assert list(top.numbers) == [k for k in order if sums[n, k] > 0]
        np.testing.assert_allclose(
            top.shares, sums[n, list(top.numbers)] / sums[n].sum(), rtol=1e-3
        )
        expected = weights[n, list(top.numbers)]
        np.testing.assert_allclose(np.array(top.weights, float), expected, rtol=1e-3)


def test_weights_below_0_of_activations_below_0_are_known() -> None:
    draw = np.random.default_rng(3)
    activation, gradient = draw.standard_normal((2, 1, 6, 3, 4)).astype(np.float32)
    top = rank_channels(bound("grad-cam"), {"activation": activation, "gradient": gradient}, 6)
    expected = gradient.mean(axis=(2, 3))[0, list(top.numbers)]
    assert len(expected) == 6
    assert expected.min() < 0 < expected.max()
    np.testing.assert_allclose(np.array(top.weights, float), expected, rtol=1e-4)


@pytest.mark.parametrize("method", ["layer-cam", "hires-cam", "smooth-grad-cam++"])
def test_part_is_the_map_of_that_channel_alone(method: str) -> None:
    settings: Any = {"samples": 3} if "smooth" in method else {}
    explanation = make_explainer(method=method, **settings)(IMAGES[:1], 1)
    (top,) = explanation.channels
    for number, part in zip(top.numbers, top.maps, strict=True):
        alone = make_explainer(method=method, top_channels=0, channels=[number], **settings)
        np.testing.assert_allclose(alone(IMAGES[:1], 1).layer_maps[0], part, rtol=1e-4, atol=1e-7)


def test_only_counted_feature_maps_are_ranked_and_keep_their_numbers() -> None:
    (top,) = make_explainer(method="layer-cam", channels="1,3-4")(IMAGES[:1]).channels
    assert {*top.numbers} <= {1, 3, 4}
    assert top.weights == (None,) * len(top.numbers)  # a weight for each cell
    assert top.shares.sum() == pytest.approx(1.0)


def test_without_a_number_nothing_is_ranked(tmp_path: Path) -> None:
    explanation = make_explainer(top_channels=0)(IMAGES)
    assert explanation.channels == ()
    assert "channels" not in explanation.manifest()
    with pytest.raises(SettingError, match="create the explainer with top_channels"):
        explanation.channel_sheet()


def test_empty_map_has_no_feature_maps() -> None:
    against = int(np.argmin(POOLED.weights["v"][0]))
    explanation = make_explainer(POOLED, channels=[against])(IMAGES[:1], 0)
    assert explanation.is_empty[0]
    assert explanation.channels[0].numbers == ()
    assert explanation.channel_sheet().width > 0


@pytest.mark.parametrize("method", ["eigen-cam", "saliency", "ablation-cam", "guided-grad-cam"])
def test_methods_without_parts_are_refused(method: str) -> None:
    layer: Any = {"layer": "auto"} if method == "saliency" else {}
    with pytest.raises(SettingError, match=r"--top-channels does not apply to .*: cam, grad-cam"):
        make_explainer(method=method, **layer)


def test_several_layers_and_negative_numbers_are_refused() -> None:
    with pytest.raises(SettingError, match="needs one layer, but there are 2"):
        make_explainer(layer="early,features")
    with pytest.raises(SettingError, match="top_channels=-1"):
        make_explainer(top_channels=-1)


def test_sheet_is_written_with_the_other_files(tmp_path: Path) -> None:
    explanation = make_explainer()(IMAGES[:1])
    (path,) = explanation.save(tmp_path)
    files = result_files(tmp_path, "array-0", "grad-cam", channels=True)
    assert files["channels"].name == "array-0.grad-cam.channels.png"
    manifest = verified_manifest(files)
    assert manifest is not None
    assert manifest["channels"] == explanation.channels[0].to_json()
    assert manifest["channels"][0].keys() == {"number", "share", "weight"}
    with Image.open(files["channels"]) as sheet:
        assert sheet.width > 168
    assert is_result(files["channels"])
    assert is_result(path)
    assert not is_result(tmp_path / "array-0.png")
    make_explainer(top_channels=0)(IMAGES[:1]).save(tmp_path)
    assert not files["channels"].exists()
    assert verified_manifest({kind: files[kind] for kind in ("overlay", "map", "manifest")})
    explanation.save(tmp_path)
    files["channels"].write_bytes(b"other")
    assert verified_manifest(files) is None
    assert json.loads(files["manifest"].read_text())["files"].keys() == {
        path.name for kind, path in files.items() if kind != "manifest"
    }
    make_explainer(top_channels=0)(IMAGES[:1]).save(tmp_path)
    assert files["channels"].read_bytes() == b"other"  # changed by somebody, so it is not ours


def test_images_together_give_those_of_images_alone() -> None:
    explainer = make_explainer(method="layer-cam")
    together = explainer(IMAGES, 1).channels
    for n in range(3):
        alone = explainer(IMAGES[n : n + 1], 1).channels[0]
        assert together[n].numbers == alone.numbers
        np.testing.assert_allclose(together[n].maps, alone.maps, rtol=1e-4, atol=1e-8)
