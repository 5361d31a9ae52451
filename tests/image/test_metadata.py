"""Metadata of models is used where it makes sense, and never executed."""

import numpy as np
import pytest
from hypothesis import given, settings
from PIL import Image

from onnxcam.image.metadata import from_metadata
from onnxcam.image.preprocess import Preprocessing, prepare
from onnxcam.specs import ImageInput
from tests.image.support.texts import ANY_TEXT

FORMAT, RANGE = "Image.BitmapPixelFormat", "Image.NominalPixelRange"


@pytest.mark.parametrize(
    ("span", "black", "white"),
    [
        ("NominalRange_0_255", 0, 255),
        ("Normalized_0_1", 0, 1),
        ("Normalized_1_1", -1, 1),
        ("NominalRange_16_235", 16, 235),
    ],
)
def test_ranges_map_black_and_white(span: str, black: float, white: float) -> None:
    settings = from_metadata({RANGE: span})
    assert settings is not None
    model = ImageInput("x", "NCHW", 3, 4, 4, 1, np.dtype("float32"))
    for color, expected in (("black", black), ("white", white)):
        tensor = prepare(Image.new("RGB", (4, 4), color), settings, model).tensor
        np.testing.assert_allclose(tensor.astype(float), expected, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "order"),
    [("Gray8", "rgb"), ("Rgb8", "rgb"), ("Bgr8", "bgr"), ("Rgba8", "rgb"), ("Bgra8", "bgr")],
)
def test_pixel_formats_give_the_order(name: str, order: str) -> None:
    settings = from_metadata({FORMAT: name})
    assert settings is not None
    assert (settings.order, settings.fit) == (order, "squash")


@pytest.mark.parametrize(
    ("mean", "std", "expected"),
    [
        ("[0.485, 0.456, 0.406]", "[0.229, 0.224, 0.225]", 255.0),
        ("0.5,0.5,0.5", "0.5 0.5 0.5", 255.0),
        ("(103.5, 116.3, 123.7)", "(57.4, 57.1, 58.4)", 1.0),
        ("[0, 0, 0]", "[255, 255, 255]", 1.0),
        ("[0.2, 1.2, 1.0]", "[1, 1, 1]", 1.0),
    ],
)
def test_lists_give_mean_std_and_their_unit(mean: str, std: str, expected: float) -> None:
    settings = from_metadata({"mean": mean, "std": std})
    assert settings is not None
    assert settings.scale == expected
    assert (len(settings.mean), len(settings.std)) == (3, 3)
    assert settings.mean[0] == float(mean.strip("[]()").split(",")[0])


def test_lists_win_over_the_range_unless_they_say_nothing() -> None:
    settings = from_metadata({RANGE: "Normalized_1_1", "mean": "0.5", "std": "0.25"})
    assert settings == Preprocessing(255.0, (0.5,), (0.25,), fit="squash")
    settings = from_metadata({RANGE: "Normalized_1_1", "mean": "0", "std": "1"})
    assert settings == Preprocessing(127.5, (1.0,), (1.0,), fit="squash")
    settings = from_metadata({"mean": "0.5"})
    assert settings == Preprocessing(255.0, (0.5,), (1.0,), fit="squash")


def test_cropping_only_where_it_is_named() -> None:
    settings = from_metadata({"mean": "0.5", "crop_pct": "0.95"})
    assert settings is not None
    assert (settings.fit, settings.crop_ratio) == ("crop", 0.95)


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        {"author": "me"},
        {FORMAT: "Yuv420"},
        {RANGE: ""},
        {"mean": "__import__('os')"},
        {"mean": "[1, 2]"},
        {"mean": "[nan]"},
        {"mean": "0.5", "std": "0"},
        {"mean": "0.5", "crop_pct": "7"},
    ],
)
def test_nonsense_counts_as_absent(metadata: dict[str, str]) -> None:
    assert from_metadata(metadata) is None


@pytest.mark.filterwarnings("ignore")  # Python warns of odd escapes in a literal
@settings(max_examples=300, derandomize=True, deadline=None, database=None)
@given(ANY_TEXT)
def test_any_text_is_preprocessing_or_none(text: str) -> None:
    settings = from_metadata(
        {"mean": text, "std": text, "crop_pct": text, FORMAT: text, RANGE: text}
    )
    assert settings is None or isinstance(settings, Preprocessing)
