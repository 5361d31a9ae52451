"""Maps in a model do not depend on the unit in which powers of gradients are computed."""

from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

import onnxcam
from onnxcam.arrays import Floats, Maps, Saliency
from onnxcam.embedding.write import embed
from onnxcam.methods import METHODS, method
from tests.support.nets import DEEP, random_images

X = random_images(2)


def map_in_model(name: str, **settings: Any) -> Floats:
    """The raw maps that the model with the explanation returns."""
    content = embed(DEEP.content(), name, target=1, **settings).model.bytes()
    session = ort.InferenceSession(content, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(["saliency"], {session.get_inputs()[0].name: X})[0])


def map_in_python(name: str, **settings: Any) -> Floats:
    explainer = onnxcam.Explainer(DEEP.content(), name, device="cpu", cache=False, **settings)
    return np.asarray(explainer(X, 1).maps)


@pytest.mark.parametrize("numerator", ["d1", "d2"])
def test_map_with_a_unit_of_its_own_is_that_of_python(numerator: str) -> None:
    settings = {"samples": 4, "generator": "tile", "numerator": numerator}
    expected = map_in_python("smooth-grad-cam++", **settings)
    computed = map_in_model("smooth-grad-cam++", **settings)
    np.testing.assert_allclose(computed, expected, rtol=0, atol=1e-5 * expected.max())


def test_map_without_a_unit_is_that_of_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(METHODS, "_values", dict(METHODS))

    @method("shifted-grad-cam", source="a formula that mixes units, 2026", sampler="gaussian")
    def shifted(activation: Maps, d1: Maps, d2: Maps) -> Saliency:
        """The activation, minus gradients and squares of them."""
        return np.maximum(np.sum(activation + 100.0 * d1 - 1000.0 * d2, axis=1), 0.0)

    settings = {"samples": 4, "generator": "tile"}
    expected = map_in_python("shifted-grad-cam", **settings)
    assert expected.max() > 0
    computed = map_in_model("shifted-grad-cam", **settings)
    np.testing.assert_allclose(computed, expected, rtol=0, atol=1e-5 * expected.max())
