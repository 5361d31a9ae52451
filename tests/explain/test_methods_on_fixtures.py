"""Every method explains models as exporters leave them, or refuses with a reason that is listed here."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import onnxcam
from onnxcam.arrays import Images
from onnxcam.errors import OnnxcamError
from onnxcam.methods import METHODS
from tests.support.nets import FIXED, random_images

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
TARGET = 0  # a class for which there is evidence in all of them
NO_ATTENTION = "no attention among the cells of the image was found"
REFUSALS = {("cam", fixture): POOLED_ONLY for fixture in FIXTURES if fixture != "half"} | {
    (name, fixture): NO_ATTENTION
    for name, method in METHODS.items()
    for fixture in FIXTURES
    if method.family == "attention" and fixture != "tokens"
}


def load_fixture(fixture: str) -> tuple[bytes, Images]:
    name = FIXTURES[fixture]
    if name is None:
        return FIXED.content(), random_images(2)
    return (DATA / f"{name}.onnx").read_bytes(), np.load(DATA / f"{name}.npz")["x"]


def explain(method: str, fixture: str) -> onnxcam.Explanation:
    """With few samples."""
    content, x = load_fixture(fixture)
    settings = METHODS[method].settings
    few = {name: number for name, number in FEW.items() if name in settings}
    return onnxcam.Explainer(content, method, device="cpu", **few)(x, TARGET)


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


def test_listed_refusals_are_of_methods_and_fixtures() -> None:
    assert REFUSALS.keys() <= {(method, fixture) for method in METHODS for fixture in FIXTURES}
