"""A file with an embedded explanation returns what Python computes with the same noise."""

from typing import Any

import numpy as np
import pytest

import onnxcam
from onnxcam.arrays import Images
from onnxcam.bundled import bundled_model
from onnxcam.embedding.metadata import LAYER_MAP, SALIENCY
from onnxcam.errors import OnnxcamError, SettingError, TargetError
from onnxcam.methods import METHODS
from onnxcam.methods.embedding import embedding_refusal
from tests.embedding.support.explained import (
    assert_close,
    explain,
    run_content,
    run_embedded,
)
from tests.explain.test_methods_on_fixtures import (
    DATA,
    FEW,
    FIXTURES,
    NO_ATTENTION,
    REFUSALS,
    TARGET,
    load_fixture,
)

# the magnitude of which rounding errors are a part, where it is not that of the map
TERMS = {
    # the mean of normalized values is 0, but for rounding errors
    ("activation-map", "tokens"): 1.0,
    # differences of scores of this size
    ("occlusion", "tokens"): 0.1,
    # a weight is divided by the sum of normalized values, which is near 0
    ("xgrad-cam", "tokens"): 4.0,
}
SHAPES_MODEL = bundled_model()
METHOD = "smooth-grad-cam++"
# float32 sums of a few rows in another order; half precision rounds what it stores at other places
TOLERANCES = {"half": 2e-3, "qdq": 1e-3, "integers": 1e-3}
COMPOSED = ("smooth-layer-cam", "guided-hires-cam", "guided-smooth-grad-cam", "smooth-saliency")
EMBEDDABLE = [name for name in (*METHODS, *COMPOSED) if embedding_refusal(METHODS[name]) is None]


def few(method: str) -> dict[str, Any]:
    settings = METHODS[method].settings
    return {name: number for name, number in FEW.items() if name in settings}


def needs_attention(method: str) -> bool:
    return METHODS[method].family == "attention"


def shapes_images(count: int = 2) -> Images:
    draw = np.random.default_rng(0)
    return draw.normal(size=(count, 3, 112, 112)).astype(np.float32)


@pytest.mark.parametrize("fixture", ["shapes", *FIXTURES])
@pytest.mark.parametrize("method", EMBEDDABLE)
def test_embedded_map_equals_map_of_python(method: str, fixture: str) -> None:
    if fixture == "shapes":
        content, images = SHAPES_MODEL.read_bytes(), shapes_images()
    else:
        content, images = load_fixture(fixture)
    images = images[:1] if fixture == "fixed batch" else images
    is_refused = (method, fixture) in REFUSALS or (fixture == "shapes" and needs_attention(method))
    if is_refused:
        with pytest.raises(OnnxcamError, match=REFUSALS.get((method, fixture), NO_ATTENTION)):
            onnxcam.embed(content, method)
        return
    run = run_embedded(content, method, images, target=TARGET, **few(method))
    expected = explain(content, method, images, TARGET, **few(method))
    largest = TERMS.get((method, fixture), 0.0)
    assert_close(run.maps, expected, TOLERANCES.get(fixture, 1e-5), largest)


@pytest.mark.parametrize("method", [METHOD, "integrated-gradients", "occlusion", "var-grad"])
@pytest.mark.parametrize("batch", [1, 2, None])
def test_rounds_of_a_loop_equal_one_batch(method: str, batch: int | None) -> None:
    images, count = shapes_images(batch or 2), {"samples": 6, "steps": 6, "window": 0.6}
    settings = {k: v for k, v in count.items() if k in METHODS[method].settings}
    maps = [
        run_embedded(SHAPES_MODEL, method, images, rounds=rounds, batch=batch, **settings)
        for rounds in (1, 2, 3, 7)
    ]
    rounds = [run.embedded.explanation.rounds for run in maps]
    rows = 1 + maps[0].embedded.explanation.samples
    assert rounds == [-(-rows // -(-rows // requested)) for requested in (1, 2, 3, 7)]
    for run in maps[1:]:
        assert_close(run.maps, maps[0].maps, 1e-5)
        assert_close(run.arrays["logits"], maps[0].arrays["logits"], 1e-5)
    loops = [[node.op for node in run.embedded.model.graph.nodes].count("Loop") for run in maps]
    assert loops == [0, 1, 1, 1]


def test_large_images_are_run_in_rounds_without_a_spare_row() -> None:
    explanation = onnxcam.embed(SHAPES_MODEL, METHOD, samples=51).explanation
    assert (explanation.samples, explanation.rounds) == (51, 26)
    assert onnxcam.embed(SHAPES_MODEL, METHOD, samples=5).explanation.rounds == 1


def test_original_outputs_are_those_of_the_images_without_noise() -> None:
    images = shapes_images()
    run = run_embedded(SHAPES_MODEL, METHOD, images, samples=3, rounds=2)
    expected = run_content(SHAPES_MODEL.read_bytes(), images)
    for name, array in expected.items():
        assert_close(run.arrays[name], array, 1e-5)


def test_target_input_selects_class_per_image_and_minus_one_the_best() -> None:
    images = shapes_images(3)
    run = run_embedded(SHAPES_MODEL, METHOD, images, classes=[4, -1, 7], samples=3)
    for row, target in enumerate([4, "top1", 7]):
        expected = explain(SHAPES_MODEL, METHOD, images[row : row + 1], target, samples=3)
        assert_close(run.maps[row : row + 1], expected, 1e-5)


@pytest.mark.parametrize(
    "target", ["top1", "top3", "not top1", "2-5", "not 4", 6, "element:logits[3]"]
)
def test_embedded_target_equals_target_of_python(target: Any) -> None:
    images = shapes_images()
    run = run_embedded(SHAPES_MODEL, "grad-cam++", images, target=target)
    assert_close(run.maps, explain(SHAPES_MODEL, "grad-cam++", images, target), 1e-5)


@pytest.mark.parametrize("method", [METHOD, "grad-cam"])
def test_probability_is_explained_as_in_python(method: str) -> None:
    content, images = load_fixture("fixed batch")
    images = images[:1]
    options: dict[str, Any] = {"score": "probability", **few(method)}
    run = run_embedded(content, method, images, **options)
    assert_close(run.maps, explain(content, method, images, "top1", **options), 1e-5)


@pytest.mark.parametrize("rounds", [1, 3])
def test_powers_of_tiny_gradients_do_not_vanish(rounds: int) -> None:
    """The cube of 1e-14 is 0 in float32."""
    model = onnxcam.load(SHAPES_MODEL)
    last = [node for node in model.graph.nodes if node.op in ("Gemm", "MatMul", "Conv")][-1]
    for tensor in last.inputs[1:]:
        tensor.values = tensor.values * np.float32(1e-14)
    content = model.bytes()
    images = shapes_images()
    run = run_embedded(content, METHOD, images, target=1, samples=4, rounds=rounds, layer=_layer())
    expected = explain(content, METHOD, images, 1, samples=4, layer=_layer())
    assert_close(run.maps, expected, 1e-5)


def _layer() -> str:
    """A layer whose gradients depend on the image."""
    return next(
        layer.name
        for layer in onnxcam.layers(onnxcam.load(SHAPES_MODEL))
        if layer.auto_for_smoothing
    )


def test_five_calls_return_the_same_bits() -> None:
    images = shapes_images(1)
    content = onnxcam.embed(SHAPES_MODEL, METHOD, samples=5, rounds=2).model.bytes()
    maps = [run_content(content, images)[SALIENCY] for _ in range(5)]
    assert all(np.array_equal(array, maps[0]) for array in maps)


def test_layer_map_has_the_size_of_the_layer() -> None:
    images = shapes_images()
    run = run_embedded(SHAPES_MODEL, "grad-cam", images, target=1)
    explainer = onnxcam.Explainer(SHAPES_MODEL, "grad-cam", device="cpu")
    assert_close(run.arrays[LAYER_MAP], explainer(images, 1).layer_maps, 1e-5)


def test_several_layers_are_fused() -> None:
    layers = [
        layer.name for layer in onnxcam.layers(onnxcam.load(SHAPES_MODEL)) if layer.is_bottleneck
    ][-3:]
    images = shapes_images()
    run = run_embedded(SHAPES_MODEL, METHOD, images, layer=layers, samples=3, fuse="mean")
    expected = explain(SHAPES_MODEL, METHOD, images, "top1", layer=layers, samples=3, fuse="mean")
    assert_close(run.maps, expected, 1e-5)


@pytest.mark.parametrize("method", [name for name in METHODS if embedding_refusal(METHODS[name])])
def test_method_that_cannot_be_embedded_says_why(method: str) -> None:
    with pytest.raises(SettingError, match=f"{method} cannot be embedded: "):
        onnxcam.embed(SHAPES_MODEL, method)


def test_unknown_output_is_refused() -> None:
    with pytest.raises(SettingError, match="outputs heat: expected some of saliency, "):
        onnxcam.embed(SHAPES_MODEL, outputs=["heat"])


def test_place_without_positions_is_refused() -> None:
    with pytest.raises(TargetError, match="one score per class"):
        onnxcam.embed(SHAPES_MODEL, target="1@box:2")


def test_notice_tells_the_noise_of_the_file() -> None:
    notices = onnxcam.embed(SHAPES_MODEL, METHOD, samples=2).notices
    assert any("--set generator=tile" in notice for notice in notices)


def test_opset_that_lacks_an_operator_is_refused() -> None:
    content = (DATA / "paddle.onnx").read_bytes()
    with pytest.raises(SettingError, match="opset=14: operators of the new model need opset 16"):
        onnxcam.embed(content, METHOD, samples=2, opset=14)
    assert onnxcam.embed(content, METHOD, samples=2, opset=17).model.opset == 17


def test_opset_below_that_of_the_model_is_refused() -> None:
    with pytest.raises(
        SettingError,
        match=r"opset=5: .* has opset 18, and models are only upgraded; expected 18 to",
    ):
        onnxcam.embed(SHAPES_MODEL, METHOD, opset=5)
