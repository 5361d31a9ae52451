"""Every method explains models as exporters leave them, or refuses with a reason that is listed here."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import onnxcam
from onnxcam.arrays import Images
from onnxcam.errors import OnnxcamError
from onnxcam.methods import METHODS
from tests.support.nets import DEEP, FIXED, POOLED, random_images

DATA = Path(__file__).parents[1] / "data"
FIXTURES = {
    "tokens": "dynamo_vit",
    "nhwc": "keras_18",
    "qdq": "qdq_per_tensor",
    "integers": "qlinear",
    "half": "float16",
    "fixed batch": None,
}
FEW: dict[str, Any] = {"samples": 3, "steps": 3, "masks": 9}  # runs
POOLED_ONLY = "needs global average pooling and a single linear layer"
REFUSALS = {("cam", fixture): POOLED_ONLY for fixture in FIXTURES if fixture != "half"}


def load_fixture(fixture: str) -> tuple[bytes, Images]:
    name = FIXTURES[fixture]
    if name is None:
        return FIXED.content(), random_images(2)
    return (DATA / f"{name}.onnx").read_bytes(), np.load(DATA / f"{name}.npz")["x"]


def make_explainer(method: str, content: bytes, **options: Any) -> onnxcam.Explainer:
    """With few samples."""
    settings = METHODS[method].settings
    few = {name: number for name, number in FEW.items() if name in settings}
    return onnxcam.Explainer(content, method, device="cpu", **few, **options)


def explain(method: str, fixture: str) -> onnxcam.Explanation:
    content, x = load_fixture(fixture)
    return make_explainer(method, content)(x, 1)


@pytest.mark.parametrize("fixture", FIXTURES)
@pytest.mark.parametrize("method", METHODS)
def test_fixture_is_explained_or_refused_as_listed(method: str, fixture: str) -> None:
    if reason := REFUSALS.get((method, fixture)):
        with pytest.raises(OnnxcamError, match=reason):
            explain(method, fixture)
        return
    explanation = explain(method, fixture)
    assert len(explanation.maps) == 2
    assert np.isfinite(explanation.maps).all()
    assert np.abs(explanation.maps).max() > 0  # of one image, all evidence may be against the class


@pytest.mark.parametrize("method", METHODS)
def test_map_does_not_depend_on_other_images_or_chunks(method: str) -> None:
    net = POOLED if method == "cam" else DEEP
    x = random_images(3)
    targets: list[int | str] = [1, "top1", "2-3"]
    together = make_explainer(method, net.content(), chunk=2)(x, targets)
    explainer = make_explainer(method, net.content(), chunk=7)
    for number, target in enumerate(targets):
        alone = explainer(x[number], target)
        scale = float(np.abs(together.maps[number]).max())
        np.testing.assert_allclose(
            alone.maps[0], together.maps[number], rtol=1e-4, atol=1e-5 * scale
        )


def test_listed_refusals_are_of_methods_and_fixtures() -> None:
    assert REFUSALS.keys() <= {(method, fixture) for method in METHODS for fixture in FIXTURES}
