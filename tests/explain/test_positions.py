"""Models with scores at positions: what is explained is the score at the selected positions, and only there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from PIL import Image

import onnxcam
from onnxcam.errors import TargetError
from onnxcam.model.load import load
from onnxcam.model.model import Model

CLASSES, SIDE = 5, 8
DRAW = np.random.Generator(np.random.SFC64(7))
WEIGHTS = DRAW.standard_normal((CLASSES, 4, 1, 1)).astype(np.float32)
STEM = DRAW.standard_normal((4, 3, 3, 3)).astype(np.float32)
IMAGES = DRAW.standard_normal((2, 3, SIDE, SIDE)).astype(np.float32)
SEGMENTER = "c = Conv<pads = [1, 1, 1, 1]>(x, stem) f = Relu(c) y = Conv(f, head)"
SIZES = ["N, 3, 8, 8", "1, 3, 8, 8", "N, 3, H, W"]


def make_model(size: str, body: str = SEGMENTER, output: str | None = None) -> Model:
    sizes = size.split(", ")
    shape = output or f"{sizes[0]}, {CLASSES}, {sizes[2]}, {sizes[3]}"
    text = f"(float[{size}] x) => (float[{shape}] y) {{ {body} }}"
    proto = onnx.parser.parse_model(f'<ir_version: 9, opset_import: ["": 17]> net {text}')
    for name, weights in {"stem": STEM, "head": WEIGHTS}.items():
        proto.graph.initializer.append(numpy_helper.from_array(weights, name))
    return load(proto)


def features(images: Any) -> Any:
    """(N, 4, H, W): the values of the layer `f`, cell by cell."""
    padded = np.pad(images, ((0, 0), (0, 0), (1, 1), (1, 1)))
    cells = np.zeros((len(images), 4, SIDE, SIDE))
    for row in range(SIDE):
        for column in range(SIDE):
            window = padded[:, :, row : row + 3, column : column + 3]
            cells[:, :, row, column] = np.einsum("nchw,ochw->no", window, STEM)
    return np.maximum(cells, 0)


def expected_map(cells: Any, index: int, weights: Any) -> Any:
    """HiResCAM of one image by hand: the gradient at a cell is the class's weights times the cell's own."""
    return np.maximum(np.einsum("chw,c->hw", cells, WEIGHTS[index, :, 0, 0]) * weights, 0)


def explain(model: Model, target: Any, **options: Any) -> onnxcam.Explanation:
    explainer = onnxcam.Explainer(model, "hires-cam", "f", device="cpu", **options)
    return explainer(IMAGES, target)


@pytest.mark.parametrize("size", SIZES)
def test_pixel_is_explained_alone(size: str) -> None:
    explanation = explain(make_model(size), "2@pixel:5,3")
    for cells, saliency in zip(features(IMAGES), explanation.maps, strict=True):
        weights = np.zeros((SIDE, SIDE))
        weights[3, 5] = 1
        np.testing.assert_allclose(saliency, expected_map(cells, 2, weights), atol=1e-6)


@pytest.mark.parametrize("size", SIZES)
def test_class_is_explained_where_it_wins(size: str) -> None:
    explanation = explain(make_model(size), "top1")
    for number, cells in enumerate(features(IMAGES)):
        scores = np.einsum("chw,kc->khw", cells, WEIGHTS[:, :, 0, 0])
        areas = np.bincount(scores.argmax(0).ravel(), minlength=CLASSES)
        index = explanation.indices[number]
        assert index == areas.argmax()
        wins = scores.argmax(0) == index
        assert explanation.scores[number] == pytest.approx(scores[index][wins].mean(), rel=1e-5)
        expected = expected_map(cells, index, wins / wins.sum())
        np.testing.assert_allclose(explanation.maps[number], expected, atol=1e-6)
        np.testing.assert_array_equal(explanation.marks[number].outline, wins)


def test_rectangle_and_mask_are_means_over_their_pixels(tmp_path: Path) -> None:
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[2:5, 1:4] = 7
    Image.fromarray(mask).save(tmp_path / "mask.png")
    model = make_model("N, 3, 8, 8")
    by_box = explain(model, "1@box:1,2,4,5").maps
    np.testing.assert_allclose(explain(model, f"1@mask:{tmp_path / 'mask.png'}").maps, by_box)
    expected = expected_map(features(IMAGES)[0], 1, (mask > 0) / 9)
    np.testing.assert_allclose(by_box[0], expected, atol=1e-6)


def test_mask_of_another_size_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "mask.npy", np.ones((4, 4)))
    with pytest.raises(TargetError, match=r"4 x 4 pixels .* expected those of array-0, 8 x 8"):
        explain(make_model("N, 3, 8, 8"), f"1@mask:{tmp_path / 'mask.npy'}")


def test_contrast_is_taken_at_the_same_pixels() -> None:
    model, cells = make_model("N, 3, 8, 8"), features(IMAGES)[0]
    explanation = explain(model, "2-0@all")
    difference = WEIGHTS[2, :, 0, 0] - WEIGHTS[0, :, 0, 0]
    expected = np.maximum(np.einsum("chw,c->hw", cells, difference), 0) / SIDE**2
    np.testing.assert_allclose(explanation.maps[0], expected, atol=1e-6)


def test_positions_stay_the_same_in_noisy_samples() -> None:
    """The last layer is linear in the features, so that the mean gradient of any samples is the clean one."""
    model = make_model("N, 3, 8, 8")
    smooth = onnxcam.Explainer(model, "smooth-hires-cam", "f", device="cpu", samples=5, noise=0.5)
    assert np.count_nonzero(smooth(IMAGES, "2@pixel:5,3").maps) <= len(IMAGES)


@pytest.mark.parametrize("method", ["deep-lift", "integrated-gradients", "lrp"])
def test_parts_of_score_at_pixel_add_up_to_it(method: str) -> None:
    """Those of DeepLIFT to the difference from the score at the same pixel of the baseline, black here."""
    explainer = onnxcam.Explainer(make_model("N, 3, 8, 8"), method, device="cpu")
    explanation = explainer(IMAGES, "2@pixel:5,3")
    scores = np.einsum("nchw,c->nhw", features(IMAGES), WEIGHTS[2, :, 0, 0])[:, 3, 5]
    attributions = np.asarray(explanation.attributions)
    np.testing.assert_allclose(attributions.sum(axis=(1, 2, 3)), scores, rtol=1e-3)
    outside = attributions.copy()
    outside[:, :, 2:5, 4:7] = 0
    assert not outside.any()


def test_all_regions_are_explained() -> None:
    explanation = explain(make_model("N, 3, 8, 8"), "all", min_score=-np.inf)
    assert len(explanation) == sum(
        len(np.unique(np.einsum("chw,kc->khw", cells, WEIGHTS[:, :, 0, 0]).argmax(0)))
        for cells in features(IMAGES)
    )
    assert all(spec.endswith("@segment") for spec in explanation.target_specs)


def test_no_target_above_smallest_score_is_an_error() -> None:
    with pytest.raises(TargetError, match="lower --min-score"):
        explain(make_model("N, 3, 8, 8"), "all", min_score=1e9)


def test_place_is_refused_for_classifier() -> None:
    body = "c = Conv(x, stem) f = Relu(c) p = GlobalAveragePool(f) y = Flatten(p)"
    with pytest.raises(TargetError, match="one score per class"):
        explain(make_model("N, 3, 8, 8", body, "N, 4"), "2@pixel:1,1")


@pytest.mark.parametrize("color", [0, 255])
def test_transparent_pixels_are_not_part_of_a_mask(color: int, tmp_path: Path) -> None:
    mask = np.full((SIDE, SIDE, 4), color, np.uint8)
    mask[:, :, 3] = 0
    mask[2:5, 1:4, 3] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    model = make_model("N, 3, 8, 8")
    by_mask = explain(model, f"1@mask:{tmp_path / 'mask.png'}").maps
    np.testing.assert_allclose(by_mask, explain(model, "1@box:1,2,4,5").maps)
