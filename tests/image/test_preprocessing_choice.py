"""The notice lists the preprocessing settings that are assumed, with the options that change them."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest

from onnxcam.errors import SettingError, UnknownNameError
from onnxcam.image.preprocess import PRESETS, Preprocessing
from onnxcam.image.preprocessing_choice import choose, notice_of, with_settings
from onnxcam.specs import ImageInput

FLOATS = ImageInput("x", "NCHW", 3, 32, 32, 1, np.dtype("float32"))
BYTES = ImageInput("x", "NHWC", 3, 32, 32, 1, np.dtype("uint8"))
ANY_SIZE = ImageInput("x", "NCHW", 3, None, None, 1, np.dtype("float32"))
TALL = ImageInput("x", "NCHW", 3, 64, None, 1, np.dtype("float32"))
RANGE, ORDER = "Image.NominalPixelRange", "Image.BitmapPixelFormat"


def notice(
    takes: ImageInput = FLOATS,
    preprocess: Any = "auto",
    metadata: Mapping[str, str] = MappingProxyType({}),
) -> str | None:
    return notice_of(choose(preprocess, metadata, takes), takes)


def test_assumed_preset_is_shown_as_options() -> None:
    text = notice()
    assert text is not None
    assert "assumed: --scale 255 --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225" in text
    assert "--order rgb --fit crop (the preset imagenet)" in text
    assert "--preprocess (imagenet, tf, caffe, unit, raw)" in text
    assert "--size" not in text
    assert "\n" not in text


def test_integer_input_assumes_raw() -> None:
    text = notice(BYTES)
    assert text is not None
    assert "--scale 1 --mean 0 --std 1 --order rgb --fit squash (the preset raw)" in text


@pytest.mark.parametrize("key", ["author", "producer", "framework"])
def test_another_author_is_named(key: str) -> None:
    text = notice(metadata={key: "Some Lab\x1b[31m"})
    assert text is not None
    assert r"its metadata names 'Some Lab\x1b[31m'" in text
    assert "the preset imagenet" in text


@pytest.mark.parametrize(
    "metadata", [{"names": "{0: 'cat'}"}, {"task": "detect"}, {"stride": "32"}]
)
def test_single_key_of_ultralytics_says_nothing(metadata: dict[str, str]) -> None:
    assert choose("auto", metadata, FLOATS).preprocessing == PRESETS["imagenet"]


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        ({"author": "Ultralytics", "names": "{0: 'cat'}"}, "its metadata names 'Ultralytics'"),
        ({"names": "{0: 'cat'}", "stride": "32"}, "its metadata has the keys that they write"),
        ({"names": "{0: 'cat'}", "task": "detect"}, "its metadata has the keys that they write"),
    ],
)
def test_letterbox_of_incomplete_metadata_is_assumed(metadata: dict[str, str], reason: str) -> None:
    choice = choose("auto", metadata, FLOATS)
    assert choice.preprocessing == Preprocessing(fit="letterbox", crop_ratio=1.0)
    text = str(notice_of(choice, FLOATS))
    assert f"--fit letterbox (as Ultralytics prepares them; {reason})" in text


@pytest.mark.parametrize("preprocess", [*PRESETS, Preprocessing(mean=(0.5,))])
def test_chosen_settings_give_no_notice(preprocess: Any) -> None:
    assert notice(preprocess=preprocess) is None
    assert notice(BYTES, preprocess) is None


@pytest.mark.parametrize(
    "metadata",
    [
        {RANGE: "Normalized_0_1"},
        {RANGE: "Normalized_1_1", ORDER: "Bgr8"},
        {"mean": "0.5", "std": "0.5"},
        {"mean": "0", "std": "255"},
        {"mean": "0", "std": "1", RANGE: "NominalRange_0_255"},
        {"mean": "[123.7, 116.3, 103.5]", "std": "[58.4, 57.1, 57.4]", "author": "Some Lab"},
    ],
)
def test_settings_of_metadata_give_no_notice(metadata: dict[str, str]) -> None:
    assert notice(metadata=metadata) is None


@pytest.mark.parametrize(
    ("metadata", "assumed"),
    [
        ({ORDER: "Bgr8"}, "--scale 255 --mean 0 --std 1"),
        ({"mean": "0.5"}, "--scale 255 --std 1"),
        ({"std": "58"}, "--scale 1 --mean 0"),
        ({"mean": "[0, 0, 0]", "std": "[1, 1, 1]"}, "--scale 255"),
    ],
)
def test_settings_missing_in_metadata_are_shown(metadata: dict[str, str], assumed: str) -> None:
    assert f"assumed: {assumed} (in addition to its metadata)" in str(notice(metadata=metadata))


def test_settings_that_the_user_gives_are_no_longer_assumed() -> None:
    choice = with_settings(choose("auto", {}, FLOATS), mean=(0.5,), std=None, fit="squash")
    text = str(notice_of(choice, FLOATS))
    assert "assumed: --scale 255 --std 0.229,0.224,0.225 --order rgb (" in text
    named = {"scale": 255.0, "mean": (0.5,), "std": (0.5,), "order": "bgr", "fit": "crop"}
    choice = with_settings(choice, **named)
    assert notice_of(choice, FLOATS) is None
    assert choice.preprocessing.order == "bgr"


def test_assumed_size_is_shown() -> None:
    assert (
        notice(ANY_SIZE, "tf") == "the model accepts images of any size; --size 224,224 is assumed"
    )
    assert "--fit crop --size 224,224 (" in str(notice(ANY_SIZE))
    assert notice(TALL, "tf") == "the model accepts images of any size; --size 64,64 is assumed"
    sized = with_settings(choose("tf", {}, ANY_SIZE), size=(96, 128))
    assert notice_of(sized, ANY_SIZE) is None


@pytest.mark.parametrize(
    ("metadata", "size"),
    [
        ({"imgsz": "[480, 640]"}, (480, 640)),
        ({"imgsz": "320"}, (320, 320)),
        ({"input_size": "(3, 256, 288)"}, (256, 288)),
        ({"imgsz": "[0, 640]"}, None),
        ({"imgsz": "99999"}, None),
        ({"imgsz": "large"}, None),
        ({"imgsz": "[1, 3, 64, 64]"}, None),
    ],
)
@pytest.mark.parametrize("preprocess", ["auto", "tf"])
def test_size_of_metadata_is_used(
    metadata: dict[str, str], size: tuple[int, int] | None, preprocess: str
) -> None:
    assert choose(preprocess, metadata, ANY_SIZE).preprocessing.size == size
    assert ("--size" in str(notice(ANY_SIZE, preprocess, metadata))) is (size is None)
    assert choose(preprocess, metadata, FLOATS).preprocessing.size is None
    assert choose(Preprocessing(), metadata, ANY_SIZE).preprocessing.size is None


def test_unsupported_size_of_metadata_is_ignored() -> None:
    assert choose("auto", {"imgsz": "[32, 64]"}, TALL).preprocessing.size is None
    assert choose("auto", {"imgsz": "[64, 96]"}, TALL).preprocessing.size == (64, 96)


def test_presets_and_settings_that_are_not_there() -> None:
    with pytest.raises(UnknownNameError, match="imagenet"):
        choose("imagnet", {}, FLOATS)
    with pytest.raises(SettingError, match="fit 'stretch'"):
        with_settings(choose("auto", {}, FLOATS), fit="stretch")
