"""Maps that are only rounding errors are 0 in the file where they are in Python."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from PIL import Image

from onnxcam.bundled import bundled_model
from onnxcam.embedding.write import embed
from onnxcam.explain.explainer import Explainer
from onnxcam.image.read import read
from tests.embedding.support.small_graphs import open_graph

FOLDER = Path(__file__).parents[2] / "models" / "samples"
SAMPLES = [path for path in sorted(FOLDER.glob("*.png")) if ".mask" not in path.name]
OUTPUTS = ("saliency", "overlay")


def with_nodes(*steps: tuple[str, float]) -> bytes:
    """The bundled model with operators after its logits, each with a number as its second input (or none)."""
    model = onnx.load(str(bundled_model()))
    last = "logits"
    for number, (operator, operand) in enumerate(steps):
        names = [last]
        if operator != "Softmax":
            names.append(f"operand_{number}")
            value = numpy_helper.from_array(np.float32(operand), names[1])
            model.graph.initializer.append(value)
        last = f"end_{number}"
        model.graph.node.append(helper.make_node(operator, names, [last]))
    model.graph.output[0].name = last
    return model.SerializeToString()


def run_file(content: bytes, method: str, images: list[Image.Image], **options: Any) -> list[Any]:
    embedded = embed(content, method, takes_pixels=True, outputs=OUTPUTS, **options)
    run = open_graph(onnx.load_from_string(embedded.model.content_and_weights()[0]))
    return run(pixels=np.stack([np.asarray(image) for image in images]))[-2:]


def run_python(content: bytes, method: str, images: list[Image.Image], **options: Any) -> Any:
    tile: dict[str, Any] = {"generator": "tile"} if method.startswith("smooth") else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Explainer(content, method, **tile, **options)(images)


@pytest.mark.parametrize("method", ["grad-cam", "grad-cam++", "saliency"])
def test_map_of_saturated_probability_is_empty(method: str) -> None:
    content = with_nodes(("Mul", 10.0), ("Softmax", 0.0))
    images = [read(path) for path in SAMPLES[:2]]
    saliency, overlay = run_file(content, method, images, score="probability")
    expected = run_python(content, method, images, score="probability")
    assert expected.is_empty.any()
    assert not expected.is_empty.all()
    for number, is_empty in enumerate(expected.is_empty):
        assert saliency[number].any() == (not is_empty)
        is_plain = np.array_equal(overlay[number], np.asarray(images[number]))
        assert is_plain == is_empty


@pytest.mark.parametrize(
    ("method", "options"),
    [("grad-cam", {}), ("smooth-grad-cam++", {"samples": 4}), ("saliency", {})],
)
def test_map_of_effect_below_rounding_is_empty(method: str, options: dict[str, Any]) -> None:
    images = [read(path) for path in SAMPLES[:2]]
    for offset, is_empty in ((7.0, True), (0.0, False)):
        content = with_nodes(("Mul", 1e-9), ("Add", offset))
        expected = run_python(content, method, images, **options)
        assert expected.is_empty.all() == is_empty
        for rounds in (1, 2):
            saliency, _ = run_file(content, method, images, rounds=rounds, **options)
            assert (not saliency.any()) == is_empty
