"""RISE: random masks, without a gradient."""

from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest

import onnxcam
from onnxcam.errors import SettingError
from onnxcam.methods.samplers.masks import RandomMasks
from tests.methods.support import image_twins
from tests.methods.support.compare import NETS, TARGET, X, assert_close, explain
from tests.methods.support.twins import probability
from tests.methods.support.without_rule import without_rule
from tests.support.layered_nets import CURVED, PIECEWISE
from tests.support.nets import ANY_SIZE, DEEP, FIXED, GREY, NHWC, POOLED, random_images

FEW = 40


def masks(size: tuple[int, int] = (8, 8)) -> list[Any]:
    return [mask[0] for mask in RandomMasks(size, 7, 0.5, 0).draw(0, FEW)]


@pytest.mark.parametrize("net", NETS)
def test_map_equals_twin_of_same_masks(net: str) -> None:
    twin = [image_twins.rise(NETS[net], x, TARGET, masks()) for x in X]
    assert_close(explain("rise", NETS[net], masks=FEW).maps, np.stack(twin))


def test_map_of_sparse_masks_equals_twin() -> None:
    sparse = [mask[0] for mask in RandomMasks((8, 8), 3, 0.2, 4).draw(0, FEW)]
    twin = [image_twins.rise(CURVED, x, TARGET, sparse, 0.2) for x in X]
    settings: dict[str, Any] = {"masks": FEW, "grid": 3, "probability": 0.2, "seed": 4}
    assert_close(explain("rise", CURVED, **settings).maps, np.stack(twin))


def test_map_approaches_map_of_other_masks() -> None:
    """Of masks drawn here, as the paper draws them: as near as a second seed of ours."""
    draw = np.random.default_rng(1)
    grids = (draw.random((2000, 7, 7)) < 0.5) * 1.0
    shifts = draw.integers(0, 2, (2000, 2)).tolist()
    drawn = [
        image_twins.rise_mask(grid, (dy, dx), 8, 8)
        for grid, (dy, dx) in zip(grids, shifts, strict=True)
    ]
    twin = image_twins.rise(PIECEWISE, X[0], TARGET, drawn)
    first, second = (explain("rise", PIECEWISE, masks=2000, seed=seed).maps[0] for seed in (0, 1))
    noise = 1 - np.corrcoef(first.ravel(), second.ravel())[0, 1]
    assert 1 - np.corrcoef(first.ravel(), twin.ravel())[0, 1] <= 2 * noise
    assert abs(first.mean() / twin.mean() - 1) < 0.05


def test_baseline_replaces_hidden_pixels() -> None:
    explanation = explain("rise", CURVED, masks=FEW, baseline=0.25)
    twin = np.zeros(explanation.maps.shape)
    for x, saliency in zip(X, twin, strict=True):
        for mask in masks():
            mixed = x * mask + 0.25 * (1 - mask)
            saliency += probability(CURVED.logits(mixed), TARGET) * mask / (0.5 * FEW)
    assert_close(explanation.maps, twin)


def test_contrast_and_evidence_against_class_are_of_probabilities() -> None:
    explainer = onnxcam.Explainer(CURVED.content(), "rise", masks=FEW, device="cpu")
    first, second, contrast, against = (explainer(X, t).maps for t in (1, 2, "1-2", "not 1"))
    np.testing.assert_allclose(contrast, np.maximum(first - second, 0), atol=1e-5)
    total = np.mean(masks(), axis=0) / 0.5
    np.testing.assert_allclose(against, total - first, atol=1e-5)


def test_image_with_channels_last_has_map_of_its_transpose() -> None:
    x = random_images(2, (8, 8, 3))
    maps = onnxcam.Explainer(NHWC.content(), "rise", masks=FEW, device="cpu")(x, TARGET).maps
    expected = np.zeros(maps.shape)
    for mask in masks():
        logits = NHWC.logits(NHWC.features((x * mask[:, :, None]).transpose(0, 3, 1, 2)))
        powers = np.exp(logits)
        probabilities = powers[:, TARGET] / powers.sum(axis=1)
        expected += probabilities[:, None, None] * mask / (0.5 * FEW)
    assert_close(maps, expected)


def test_images_of_other_sizes_have_masks_of_their_size() -> None:
    x = random_images(1, (3, 10, 14))
    maps = onnxcam.Explainer(ANY_SIZE.content(), "rise", masks=FEW, device="cpu")(x, TARGET).maps
    expected = np.zeros(maps.shape)
    for mask in masks((10, 14)):
        powers = np.exp(POOLED.logits(POOLED.features(x * mask)))
        probabilities = powers[:, TARGET] / powers.sum(axis=1)
        expected += probabilities[:, None, None] * mask / (0.5 * FEW)
    assert_close(maps, expected)


def test_fixed_batch_that_is_filled_up_gives_same_map() -> None:
    batch_of_three = replace(FIXED, head=DEEP.head, flatten=DEEP.flatten).with_batch("3")
    for target in (TARGET, f"not {TARGET}"):
        maps, expected = (
            onnxcam.Explainer(net.content(), "rise", masks=FEW, device="cpu")(X, target).maps
            for net in (batch_of_three, DEEP)
        )
        assert_close(maps, expected)


def test_image_of_integers_is_rounded() -> None:
    proto = GREY.proto()
    proto.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.UINT8
    cast = onnx.helper.make_node("Cast", ["x"], ["floats"], to=onnx.TensorProto.FLOAT)
    for node in proto.graph.node:
        node.input[:] = ["floats" if name == "x" else name for name in node.input]
    proto.graph.node.insert(0, cast)
    x = np.rint(random_images(1, (1, 8, 8)) + 4).astype(np.uint8)
    content = bytes(proto.SerializeToString())
    maps = onnxcam.Explainer(content, "rise", masks=FEW, device="cpu")(x, TARGET).maps
    expected = np.zeros(maps.shape)
    for mask in masks():
        powers = np.exp(GREY.logits(GREY.features(np.rint(x * mask))))
        expected += (powers[:, TARGET] / powers.sum(axis=1))[:, None, None] * mask / (0.5 * FEW)
    assert_close(maps, expected)


def test_model_whose_operators_have_no_rule_is_explained() -> None:
    x = random_images(2)
    explanation = onnxcam.Explainer(without_rule(), "rise", masks=FEW, device="cpu")(x, TARGET)
    expected = np.zeros(explanation.maps.shape)
    for mask in masks():
        powers = np.exp(np.linalg.det(POOLED.features(x * mask)))
        probabilities = powers[:, TARGET] / powers.sum(axis=1)
        expected += probabilities[:, None, None] * mask / (0.5 * FEW)
    assert_close(explanation.maps, expected)
    assert "its Softmax is used as the probability" in " ".join(explanation.notices)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"layer": "features"}, "rise, which has no layer to choose"),
        ({"region": "0:1,0:1"}, "rise"),
        ({"probability": 0.0}, "probability=0.0: expected 0.01 to 1"),
        ({"grid": 0}, "grid=0: expected 1 to 256"),
    ],
)
def test_option_without_meaning_is_refused(option: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        explain("rise", CURVED, masks=FEW, **option)
