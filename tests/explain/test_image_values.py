"""Values of inputs that are images: prepared like the explained image, for the input that they belong to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import onnxcam
from onnxcam.errors import ImageError, ModelError, SettingError, UnknownNameError
from tests.explain.support.tracker import tracker

IMAGENET = (np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225]))


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "a=dog.png"
    pixels = np.random.default_rng(1).integers(0, 256, (4, 4, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return path


SEARCH = np.random.default_rng(2).normal(size=(1, 3, 8, 8)).astype(np.float32)


def explain(inputs: dict[str, Any], **options: Any) -> Any:
    arguments = {"preprocess": "unit", "device": "cpu", "cache": False, **options}
    explainer = onnxcam.Explainer(tracker(), "grad-cam", "maps", inputs=inputs, **arguments)
    return explainer(SEARCH, 1)


@pytest.mark.parametrize("kind", ["path", "text", "image"])
def test_image_is_prepared_for_its_input(photo: Path, kind: str) -> None:
    with Image.open(photo) as opened:
        source: Any = {"path": photo, "text": str(photo), "image": opened.copy()}[kind]
        pixels = np.asarray(opened, np.float32).transpose(2, 0, 1)[None]
    mean, std = (numbers.reshape(1, 3, 1, 1) for numbers in IMAGENET)
    for options, array in (
        ({}, pixels / 255),
        ({"pixels": {"scale": 1.0, "order": "bgr"}}, pixels[:, ::-1]),
        ({"preprocess": "imagenet", "pixels": {"fit": "squash"}}, (pixels / 255 - mean) / std),
        ({"pixels": {"size": (8, 8)}}, pixels / 255),  # the size of the explained image
    ):
        actual = explain({"template": source, "sizes": [1, 2]}, **options)
        expected = explain({"template": array.astype(np.float32), "sizes": [1, 2]}, **options)
        np.testing.assert_allclose(actual.maps, expected.maps, rtol=1e-5)
        np.testing.assert_allclose(actual.scores, expected.scores, rtol=1e-5)
        assert np.abs(actual.scores).min() > 0


def test_other_image_of_two_is_explained(photo: Path) -> None:
    explainer = onnxcam.Explainer(
        tracker("N, 3, 4, 4", "1, 3, 8, 8"),
        "saliency",
        inputs={"search": photo, "sizes": [1, 1]},
        preprocess="unit",
        device="cpu",
        cache=False,
    )
    assert explainer.plan.image.name == "template"
    assert explainer(SEARCH[:, :, :4, :4], 0).maps.shape == (1, 4, 4)


@pytest.mark.parametrize(
    ("inputs", "error", "words"),
    [
        ({"tmplate": "{photo}"}, UnknownNameError, "did you mean template"),
        ({"sizes": "{photo}"}, SettingError, r"'sizes' \(int64, shape \(2\)\) takes no image"),
        ({"template": "none.png"}, ImageError, "none.png: no such file"),
    ],
)
def test_image_that_does_not_fit_is_refused(
    photo: Path, inputs: dict[str, str], error: type[Exception], words: str
) -> None:
    values = {name: text.format(photo=photo) for name, text in inputs.items()}
    with pytest.raises(error, match=words):
        explain(values)


def test_missing_image_is_asked_for_as_an_image() -> None:
    with pytest.raises(ModelError, match=r"--input search=IMAGE \(float32, shape \(N, 3, 8, 8\)\)"):
        explain({"sizes": [1, 1]})
