"""The bundled model with its explanation inside is what its script writes, and answers as its original does."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from PIL import Image

from onnxcam import Explainer
from onnxcam.bundled import bundled_explained_model, bundled_model, sample_images
from onnxcam.embedding.metadata import metadata_of
from onnxcam.model.proto.walk import all_scopes
from scripts.shapes.explained import explain_shapes

AGAIN = "write it again: python -m scripts.shapes.explained"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("explained") / "shapes-explained.onnx"
    explain_shapes().save(path)
    return path


def run(path: Path, image: Path, target: int = -1) -> dict[str, Any]:
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    pixels = np.asarray(Image.open(image).convert("RGB"))[np.newaxis]
    names = [output.name for output in session.get_outputs()]
    outputs = session.run(names, {"pixels": pixels, "target": np.array([target])})
    return dict(zip(names, outputs, strict=True))


def describe(path: Path) -> tuple[Any, ...]:
    """What the graph of a file is made of, without the numbers in it."""
    proto = onnx.load(path)
    operators = Counter(node.op_type for scope in all_scopes(proto) for node in scope.node)
    weights = Counter((t.data_type, tuple(t.dims)) for t in proto.graph.initializer)
    return operators, weights, list(proto.graph.input), list(proto.graph.output)


def test_bundled_file_is_what_its_script_writes(written: Path) -> None:
    assert metadata_of(bundled_explained_model()) == metadata_of(written), AGAIN
    assert describe(bundled_explained_model()) == describe(written), AGAIN
    for image in sample_images()[:3]:
        first, second = run(bundled_explained_model(), image), run(written, image)
        for name, values in first.items():
            np.testing.assert_allclose(
                values, second[name], rtol=0, atol=1e-6 * np.abs(values).max(), err_msg=AGAIN
            )


def test_card_has_the_size_of_the_file() -> None:
    path = bundled_explained_model()
    card = (path.parent / "README.md").read_text()
    assert f"| Size | {path.stat().st_size:,} bytes" in card, AGAIN


@pytest.mark.parametrize("target", [-1, 2])
def test_bundled_file_has_the_maps_of_its_original(target: int) -> None:
    explanation = metadata_of(bundled_explained_model())
    assert explanation is not None
    settings = dict(explanation.settings)
    explainer = Explainer(bundled_model(), explanation.method, explanation.layers, **settings)
    for image in sample_images()[::3]:
        expected = explainer(str(image), "top1" if target < 0 else target)
        outputs = run(bundled_explained_model(), image, target)
        peak = float(np.abs(expected.maps).max())
        np.testing.assert_allclose(outputs["saliency"], expected.maps, rtol=0, atol=1e-5 * peak)
        drawn = np.asarray(expected.overlay(), np.int32)
        assert outputs["overlay"].shape[1:] == drawn.shape
        assert np.abs(outputs["overlay"][0] - drawn).max() <= 1
