"""The tensor holds the numbers that the training frameworks would have made of the image."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from onnxcam.errors import SettingError, UnknownNameError
from onnxcam.image.preprocess import (
    PRESETS,
    Preprocessing,
    from_dict,
    prepare,
    preset_for,
    to_dict,
    with_overrides,
)
from onnxcam.specs import ImageInput

COLOUR = (200, 100, 50)


def takes(
    channels: int | None = 3,
    height: int | None = 32,
    width: int | None = 32,
    layout: str = "NCHW",
    dtype: str = "float32",
) -> ImageInput:
    return ImageInput("pixels", layout, channels, height, width, None, np.dtype(dtype))


def noise(width: int, height: int) -> Image.Image:
    pixels = np.random.default_rng(width).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(pixels)


def pixel(preset: str, **which: Any) -> list[float]:
    """What the preset makes of COLOUR, one number a channel."""
    prepared = prepare(Image.new("RGB", (40, 40), COLOUR), PRESETS[preset], takes(**which))
    axes = (0, 2, 3) if which.get("layout", "NCHW") == "NCHW" else (0, 1, 2)
    return [float(value) for value in prepared.tensor.astype(float).mean(axis=axes)]


@pytest.mark.parametrize(
    ("preset", "expected"),
    [
        ("imagenet", [1.3070, -0.2850, -0.9330]),
        ("tf", [0.5686, -0.2157, -0.6078]),
        ("caffe", [50 - 104, 100 - 117, 200 - 123]),
        ("unit", [200 / 255, 100 / 255, 50 / 255]),
        ("raw", [200, 100, 50]),
    ],
)
def test_presets(preset: str, expected: list[float]) -> None:
    assert pixel(preset) == pytest.approx(expected, abs=1e-4)
    assert pixel(preset, layout="NHWC") == pytest.approx(expected, abs=1e-4)
    assert pixel(preset, channels=None) == pytest.approx(expected, abs=1e-4)


def test_misspelled_preset_is_suggested() -> None:
    with pytest.raises(UnknownNameError, match="did you mean imagenet"):
        PRESETS["imagnet"]


def test_one_channel_gets_grey_and_average_statistics() -> None:
    gray = 0.299 * 200 + 0.587 * 100 + 0.114 * 50
    assert pixel("raw", channels=1) == pytest.approx([gray], abs=0.51)
    assert pixel("imagenet", channels=1) == pytest.approx([(round(gray) / 255 - 0.449) / 0.226])
    assert pixel("caffe", channels=1) == pytest.approx([round(gray) - 344 / 3])


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_tensor_has_dtype_of_model(dtype: str) -> None:
    prepared = prepare(noise(50, 40), PRESETS["imagenet"], takes(dtype=dtype)).tensor
    assert prepared.dtype == dtype
    exact = prepare(noise(50, 40), PRESETS["imagenet"], takes()).tensor
    np.testing.assert_array_equal(prepared, exact.astype(dtype))


def test_tensor_is_contiguous_in_layout_of_model() -> None:
    for layout, shape in (("NCHW", (1, 3, 24, 32)), ("NHWC", (1, 24, 32, 3))):
        prepared = prepare(noise(50, 40), PRESETS["imagenet"], takes(3, 24, 32, layout)).tensor
        assert prepared.shape == shape
        assert prepared.dtype == np.float32
        assert prepared.flags.c_contiguous


@pytest.mark.parametrize("size", [(517, 333), (333, 517), (300, 300), (90, 70), (224, 1000)])
@pytest.mark.parametrize("side", [224, 299, 64])
def test_crop_is_resize_then_center_crop(size: tuple[int, int], side: int) -> None:
    image = noise(*size)
    short = int(side / 0.875)
    wide = size[0] > size[1]
    across = short * size[0] // size[1] if wide else short
    down = short if wide else short * size[1] // size[0]
    resized = image.resize((across, down), Image.Resampling.BILINEAR)
    left, top = round((across - side) / 2), round((down - side) / 2)
    expected = np.asarray(resized.crop((left, top, left + side, top + side)), float)
    prepared = prepare(image, with_overrides(PRESETS["raw"], fit="crop"), takes(3, side, side))
    assert np.abs(prepared.tensor[0].astype(float) - expected.transpose(2, 0, 1)).max() <= 1
    across_scale, down_scale = size[0] / across, size[1] / down
    assert prepared.box == pytest.approx(
        (left * across_scale, top * down_scale, (left + side) * across_scale,
         (top + side) * down_scale)
    )  # fmt: skip


def test_squash_shows_the_whole_image() -> None:
    image = noise(50, 30)
    prepared = prepare(image, PRESETS["raw"], takes(3, 20, 40))
    assert prepared.box == (0, 0, 50, 30)
    assert prepared.image is image
    expected = image.resize((40, 20), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(prepared.tensor[0].transpose(1, 2, 0), np.asarray(expected))


def test_resampling_is_a_setting() -> None:
    image = noise(50, 30)
    prepared = prepare(image, Preprocessing(1.0, fit="squash", resample="bicubic"), takes())
    expected = image.resize((32, 32), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(prepared.tensor[0].transpose(1, 2, 0), np.asarray(expected))


@settings(max_examples=150, derandomize=True, deadline=None, database=None)
@given(
    image=st.tuples(st.integers(1, 300), st.integers(1, 300)),
    tensor=st.tuples(st.integers(1, 64), st.integers(1, 64)),
    ratio=st.floats(0.05, 1),
)
def test_any_box_lies_in_the_image_with_the_tensor_s_proportions(
    image: tuple[int, int], tensor: tuple[int, int], ratio: float
) -> None:
    prepared = prepare(
        Image.new("RGB", image, COLOUR),
        Preprocessing(scale=1.0, crop_ratio=ratio),
        takes(3, tensor[1], tensor[0]),
    )
    left, top, right, bottom = prepared.box
    assert 0 <= left < right <= image[0]
    assert 0 <= top < bottom <= image[1]
    assert prepared.tensor[0, :, 0, 0].astype(float).tolist() == list(COLOUR)
    assert abs(left + right - image[0]) <= 2 * (right - left) / tensor[0] + 1e-9
    assert abs(top + bottom - image[1]) <= 2 * (bottom - top) / tensor[1] + 1e-9


def test_thin_image_needs_no_huge_intermediate() -> None:
    prepared = prepare(
        Image.new("RGB", (1, 60000), COLOUR), PRESETS["imagenet"], takes(3, 224, 224)
    )
    assert prepared.tensor.shape == (1, 3, 224, 224)
    assert prepared.box[3] - prepared.box[1] == pytest.approx(0.875, abs=0.01)


@pytest.mark.parametrize(
    ("height", "width", "asked", "expected"),
    [
        (None, None, None, (224, 224)),
        (None, None, (30, 40), (30, 40)),
        (64, 48, None, (64, 48)),
        (64, 48, (64, 48), (64, 48)),
        (None, 48, None, (48, 48)),
        (64, None, (64, 20), (64, 20)),
    ],
)
def test_size_comes_from_the_model_then_the_setting_then_224(
    height: int | None,
    width: int | None,
    asked: tuple[int, int] | None,
    expected: tuple[int, int],
) -> None:
    prepared = prepare(noise(60, 50), Preprocessing(size=asked), takes(3, height, width))
    assert prepared.tensor.shape[2:] == expected


def test_size_unlike_fixed_input_is_error() -> None:
    with pytest.raises(SettingError, match=r"size 30 x 40.*'pixels' is fixed at 30 x 32.*leave"):
        prepare(noise(9, 9), Preprocessing(size=(30, 40)), takes(3, 30, 32))
    with pytest.raises(SettingError, match="'pixels' is 20000 x 32"):
        prepare(noise(9, 9), Preprocessing(), takes(3, 20000, 32))


@pytest.mark.parametrize("channels", [2, 4, 0])
def test_other_numbers_of_channels_are_refused(channels: int) -> None:
    with pytest.raises(SettingError, match=f"expects {channels} channels.*preprocess the array"):
        prepare(noise(9, 9), Preprocessing(), takes(channels))


def test_integer_inputs_are_rounded_and_saturated() -> None:
    assert pixel("raw", dtype="uint8") == [200, 100, 50]
    assert pixel("raw", dtype="int8") == [72, -28, -78]
    assert pixel("raw", dtype="int32") == [200, 100, 50]
    assert pixel("caffe", dtype="int8") == [-54, -17, 77]
    assert pixel("caffe", dtype="uint8") == [0, 0, 77]
    assert pixel("raw", dtype="float16") == [200, 100, 50]
    half = Preprocessing(scale=2.0, fit="squash")
    black = prepare(Image.new("RGB", (4, 4), (5, 6, 7)), half, takes(dtype="uint8"))
    assert black.tensor.dtype == np.uint8
    assert black.tensor[0, :, 0, 0].astype(int).tolist() == [2, 3, 4]
    own_zero = prepare(
        Image.new("RGB", (4, 4), COLOUR), Preprocessing(1.0, mean=(128.0,)), takes(dtype="int8")
    )
    assert own_zero.tensor[0, :, 0, 0].astype(int).tolist() == [72, -28, -78]


@pytest.mark.parametrize(
    ("preset", "dtype"), [("imagenet", "uint8"), ("unit", "int8"), ("tf", "uint8")]
)
def test_settings_that_leave_nothing_of_the_image_are_refused(preset: str, dtype: str) -> None:
    with pytest.raises(SettingError, match=f"for the {dtype} input.*use the preset 'raw'"):
        pixel(preset, dtype=dtype)


@pytest.mark.parametrize("dtype", ["bool", "object", "str"])
def test_inputs_that_hold_no_pixels_are_refused(dtype: str) -> None:
    with pytest.raises(SettingError, match="which cannot hold pixels"):
        prepare(noise(9, 9), PRESETS["raw"], takes(dtype=dtype))


def test_assumed_preset_depends_on_dtype() -> None:
    assert preset_for(takes()) == "imagenet"
    assert preset_for(takes(dtype="uint8")) == preset_for(takes(dtype="int8")) == "raw"


def test_image_of_other_mode_is_converted() -> None:
    clear = Image.new("RGBA", (9, 9), 0)
    prepared = prepare(clear, PRESETS["unit"], takes())
    assert prepared.tensor.astype(float).min() == 1
    assert prepared.image.mode == "RGB"


@pytest.mark.parametrize(
    ("given_settings", "error"),
    [
        ({"scale": 0.0}, "scale 0.0: expected a number above 0"),
        ({"scale": -1.0}, "scale -1.0"),
        ({"scale": float("nan")}, "scale nan"),
        ({"mean": (1.0, 2.0)}, r"mean \[1.0, 2.0\]: expected one number, or one for each of 3"),
        ({"mean": (float("inf"),)}, r"mean \[inf\]"),
        ({"std": (1.0, 0.0, 1.0)}, r"std \[1.0, 0.0, 1.0\]: expected numbers above 0"),
        ({"std": ()}, r"std \[\]"),
        ({"order": "rbg"}, "order 'rbg': expected 'rgb' or 'bgr'"),
        (
            {"fit": "pad"},
            "fit 'pad': expected 'crop', 'squash', 'squash-crop', 'letterbox' or 'letterbox-corner'",
        ),
        ({"pad": (0.0, 114.0, 256.0)}, r"pad \[0.0, 114.0, 256.0\]: expected pixels of 0 to 255"),
        ({"pad": (1.0, 2.0)}, r"pad \[1.0, 2.0\]: expected one number, or one for each of 3"),
        ({"resample": "cubic"}, "resample 'cubic': expected nearest, box, bilinear, .*lanczos"),
        ({"crop_ratio": 0.0}, "crop_ratio 0.0"),
        ({"crop_ratio": 1.1}, "crop_ratio 1.1"),
        ({"size": (0, 5)}, r"size \(0, 5\): expected \(height, width\), each 1 to 16384"),
        ({"size": (5, 16385)}, r"size \(5, 16385\)"),
        ({"size": (5,)}, r"size \(5,\)"),
    ],
)
def test_settings_out_of_range_are_named(given_settings: dict[str, Any], error: str) -> None:
    with pytest.raises(SettingError, match=error):
        Preprocessing(**given_settings)


def test_all_problems_are_named_at_once() -> None:
    with pytest.raises(SettingError, match=r"scale .*; std .*; size "):
        Preprocessing(scale=0.0, std=(0.0,), size=(0, 0))


def test_override_changes_only_what_is_given() -> None:
    assert with_overrides(PRESETS["imagenet"]) == PRESETS["imagenet"]
    changed = with_overrides(
        PRESETS["imagenet"],
        size=(8, 9),
        mean=(0.0,),
        std=(2.0,),
        scale=1.0,
        order="bgr",
        fit="squash",
    )
    assert changed == Preprocessing(1.0, (0.0,), (2.0,), "bgr", "squash", (8, 9))
    with pytest.raises(SettingError, match="scale"):
        with_overrides(PRESETS["raw"], scale=0.0)


def test_describe_survives_json() -> None:
    for preset in PRESETS.values():
        notice = to_dict(with_overrides(preset, size=(8, 9)))
        assert json.loads(json.dumps(notice)) == notice
        assert notice["size"] == [8, 9]
        again: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in notice.items()
        }
        assert Preprocessing(**again) == with_overrides(preset, size=(8, 9))


@pytest.mark.parametrize("size", [(517, 333), (333, 517), (90, 70)])
def test_squash_crop_is_squash_then_center_crop(size: tuple[int, int]) -> None:
    image = noise(*size)
    resized = image.resize((256, 256), Image.Resampling.BILINEAR)
    expected = np.asarray(resized.crop((16, 16, 240, 240)), float)
    settings_ = with_overrides(PRESETS["raw"], fit="squash-crop")
    prepared = prepare(image, settings_, takes(3, 224, 224))
    assert np.abs(prepared.tensor[0].astype(float) - expected.transpose(2, 0, 1)).max() <= 1
    left, top = size[0] * 16 / 256, size[1] * 16 / 256
    assert prepared.box == pytest.approx((left, top, size[0] - left, size[1] - top))


def test_settings_of_an_older_manifest_get_the_default_padding() -> None:
    stored = to_dict(PRESETS["tf"])
    del stored["pad"]
    assert from_dict(stored) == PRESETS["tf"]
