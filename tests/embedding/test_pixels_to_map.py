"""A file that takes pixels returns the maps and overlays of the Python path on the same images."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image
from PIL import __version__ as pillow_version

from onnxcam.bundled import bundled_model
from onnxcam.embedding.metadata import metadata_of
from onnxcam.embedding.write import EmbeddedModel, embed
from onnxcam.errors import SettingError
from onnxcam.explain.explainer import Explainer
from onnxcam.image.preprocess import Preprocessing, prepare
from onnxcam.image.read import read
from tests.embedding.support.small_graphs import open_graph

DATA = Path(__file__).parents[1] / "data"
FOLDER = Path(__file__).parents[2] / "models" / "samples"
SAMPLES = [path for path in sorted(FOLDER.glob("*.png")) if ".mask" not in path.name]
SHARED = Path(__file__).parents[3] / "shared" / "data"
MOBILENET = SHARED / "models" / "mobilenet_v2_1.0_224_float_nhwc.onnx"
SHAPES = bundled_model()
SIDE = 112  # of SHAPES
FEW: dict[str, dict[str, Any]] = {
    "grad-cam": {},
    "smooth-grad-cam++": {"samples": 4},
    "smooth-grad": {"samples": 4},
    "saliency": {},
    "integrated-gradients": {"steps": 6},
}
TALL = pytest.mark.skipif(
    int(pillow_version.split(".")[0]) < 13,
    reason="Pillow resamples the columns first since version 13",
)
LETTERBOX = Preprocessing(fit="letterbox", resample="bicubic", pad=(9.0, 80.0, 200.0))
CROP = Preprocessing(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


def images(width: int, height: int) -> list[Image.Image]:
    """Two samples of this size."""
    return [read(path).resize((width, height), Image.Resampling.BICUBIC) for path in SAMPLES[:2]]


def runner(embedded: EmbeddedModel) -> Callable[[list[Image.Image]], dict[str, Any]]:
    content, _ = embedded.model.content_and_weights()
    run = open_graph(onnx.load_from_string(content))
    names = [tensor.name for tensor in embedded.model.graph.outputs]

    def call(pictured: list[Image.Image]) -> dict[str, Any]:
        pixels = np.stack([np.asarray(image) for image in pictured])
        return dict(zip(names, run(pixels=pixels), strict=True))

    return call


def explainer(model: Path, method: str, preprocessing: Any, **settings: Any) -> Explainer:
    """The Python path, with the noise that a file holds."""
    tile: dict[str, Any] = {"generator": "tile"} if method.startswith("smooth") else {}
    return Explainer(model, method, preprocess=preprocessing, **tile, **settings)


@pytest.mark.parametrize("method", FEW)
def test_map_and_overlay_of_unresized_image_are_those_of_python(method: str) -> None:
    settings = FEW[method]
    options: dict[str, Any] = {
        "preprocess": LETTERBOX,
        "outputs": ("saliency", "overlay"),
        **settings,
    }
    call = runner(embed(SHAPES, method, takes_pixels=True, **options))
    explain = explainer(SHAPES, method, LETTERBOX, **settings)
    samples = images(SIDE, SIDE)
    results, expected = call(samples), explain(samples)
    for number in range(2):
        peak = np.abs(expected.maps[number]).max()
        np.testing.assert_allclose(
            results["saliency"][number], expected.maps[number], atol=1e-5 * peak
        )
        drawn = np.asarray(expected.overlay(number)).astype(int)
        assert np.abs(results["overlay"][number] - drawn).max() <= 2


@pytest.mark.parametrize("preprocessing", [CROP, LETTERBOX], ids=["crop", "letterbox"])
@pytest.mark.parametrize(
    "size", [(301, 200), pytest.param((77, 150), marks=TALL), (640, 480)], ids=str
)
@pytest.mark.parametrize("method", ["grad-cam", "smooth-grad-cam++", "saliency"])
def test_map_of_resized_image_is_nearly_that_of_python(
    method: str, size: tuple[int, int], preprocessing: Preprocessing
) -> None:
    """A level more of one pixel in 300 changes a map at a layer by 0.2 %, and single pixels of one at the image
    more, where it passes a kink of the network.
    """
    settings = FEW[method]
    call = runner(embed(SHAPES, method, takes_pixels=True, preprocess=preprocessing, **settings))
    samples = images(*size)
    results, expected = call(samples), explainer(SHAPES, method, preprocessing, **settings)(samples)
    for saliency, reference in zip(results["saliency"], expected.maps, strict=True):
        compare(saliency, reference, 0.05 if method == "saliency" else 0.005)


def compare(saliency: Any, reference: Any, tolerance: float) -> None:
    error = np.linalg.norm(saliency - reference) / np.linalg.norm(reference)
    assert error <= tolerance
    assert np.corrcoef(saliency.ravel(), np.asarray(reference).ravel())[0, 1] >= 1 - tolerance / 10


@pytest.mark.parametrize("name", ["keras_18", "float16", "qdq_per_channel", "torchscript_vit"])
def test_other_layouts_and_types_take_pixels(name: str) -> None:
    model = DATA / f"{name}.onnx"
    call = runner(embed(model, "grad-cam", takes_pixels=True, preprocess=CROP))
    explain = explainer(model, "grad-cam", CROP)
    samples = images(301, 200)
    results, expected = call(samples), explain(samples)
    for saliency, reference in zip(results["saliency"], expected.maps, strict=True):
        compare(saliency, reference, 0.01)


def test_overlay_of_a_file_that_takes_tensors_shows_the_image() -> None:
    options: dict[str, Any] = {"preprocess": CROP, "outputs": ("overlay",)}
    taking_pixels = embed(SHAPES, "grad-cam", takes_pixels=True, **options)
    taking_tensors = embed(SHAPES, "grad-cam", **options)
    content, _ = taking_tensors.model.content_and_weights()
    samples = images(SIDE * 2, SIDE)
    explain = explainer(SHAPES, "grad-cam", CROP)
    tensors = np.concatenate([image.tensor for image in prepared(samples, explain)])
    drawn = open_graph(onnx.load_from_string(content))(image=tensors)[-1]
    difference = np.abs(drawn.astype(int) - runner(taking_pixels)(samples)["overlay"])
    assert difference.max() <= 2 + 2  # of the pixels and of the drawing


def prepared(samples: list[Image.Image], explain: Explainer) -> list[Any]:
    return [prepare(image, explain.preprocessing, explain.plan.image) for image in samples]


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("rounds", [1, 2])
def test_fixed_batch_and_rounds_take_pixels(batch: int, rounds: int) -> None:
    settings: dict[str, Any] = {"samples": 4, "preprocess": CROP, "takes_pixels": True}
    free = runner(embed(SHAPES, **settings))
    embedded = embed(SHAPES, batch=batch, rounds=rounds, **settings)
    assert embedded.model.graph.inputs[0].shape[0] == batch
    samples = images(150, 201)[:batch]
    saliency, expected = runner(embedded)(samples)["saliency"], free(samples)["saliency"]
    np.testing.assert_allclose(saliency, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


def test_inputs_keep_their_order_and_the_file_says_what_it_takes() -> None:
    embedded = embed(SHAPES, "grad-cam", takes_pixels=True, target_input=True, preprocess=CROP)
    assert [tensor.name for tensor in embedded.model.graph.inputs] == ["pixels", "target"]
    content, _ = embedded.model.content_and_weights()
    explanation = metadata_of(content)
    assert explanation is not None
    assert explanation.takes_pixels
    assert explanation.preprocessing == embedded.explanation.preprocessing
    assert not embed(SHAPES, "grad-cam").explanation.takes_pixels


def test_model_of_an_old_opset_is_raised_for_pixels() -> None:
    embedded = embed(SHAPES, "grad-cam", takes_pixels=True, preprocess=CROP)
    assert embedded.model.opset >= 12


def test_filter_with_steps_is_reported() -> None:
    nearest = Preprocessing(resample="nearest")
    notices = embed(SHAPES, "grad-cam", takes_pixels=True, preprocess=nearest).notices
    assert any("nearest" in notice for notice in notices)
    assert not any("nearest" in notice for notice in embed(SHAPES, preprocess=nearest).notices)


def test_unknown_output_is_refused() -> None:
    with pytest.raises(SettingError, match="overlay"):
        embed(SHAPES, "grad-cam", outputs=("overlays",))


@pytest.mark.skipif(not MOBILENET.exists(), reason="the models are not part of the project")
def test_map_of_photographs_is_nearly_that_of_python() -> None:
    call = runner(embed(MOBILENET, "grad-cam", takes_pixels=True, preprocess="tf"))
    explain = explainer(MOBILENET, "grad-cam", "tf")
    for path in sorted((SHARED / "images" / "coco" / "img").glob("*.jpg"))[:6]:
        result, expected = call([read(path)]), explain([read(path)])
        compare(result["saliency"][0], expected.maps[0], 0.01)
