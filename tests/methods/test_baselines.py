"""The image that a method compares with, as a number, an array, a name, or a file."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import onnxcam
from onnxcam.arrays import Floats
from onnxcam.cli.parsing import method_settings
from onnxcam.errors import SettingError
from onnxcam.methods.baselines import BASELINES, check_baseline
from tests.methods.support.compare import assert_close
from tests.support.nets import DEEP, NHWC, random_images

METHOD = "integrated-gradients"
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of the default preprocessing
X = random_images(2)


def attributions(baseline: Any, net: Any = DEEP, images: Any = X) -> Floats:
    explainer = onnxcam.Explainer(
        net.content(), METHOD, device="cpu", cache=False, steps=5, baseline=baseline
    )
    return np.asarray(explainer(images, 1).attributions)


def per_channel(*numbers: float) -> Floats:
    return np.array(numbers)[:, None, None]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        *((number, 0.5) for number in (0.5, "0.5", np.float32(0.5), np.array(0.5))),
        (1, 1.0),
        *((name, name) for name in BASELINES),
    ],
)
def test_checked_baseline_is_a_number_or_a_name(value: Any, expected: Any) -> None:
    assert check_baseline(value) == expected
    assert type(check_baseline(value)) is type(expected)


@pytest.mark.parametrize(
    "value",
    [
        "grey",
        "",
        "nan",
        "inf",
        None,
        True,
        float("nan"),
        [1.0, np.inf],
        [[1.0], [1.0, 2.0]],
        {},
        [],
    ],
)
def test_invalid_baseline_error_says_what_is_expected(value: Any) -> None:
    with pytest.raises(
        SettingError, match=r"baseline=.*: expected a finite number or array"
    ) as error:
        check_baseline(value)
    assert "one of black, white, mean, blur, noise, or the path of an image" in str(error.value)


def test_baseline_is_a_setting_of_the_command_line() -> None:
    assert method_settings(METHOD, ["baseline=black"], {}) == {"baseline": "black"}
    with pytest.raises(SettingError, match=r"baseline='grey'"):
        method_settings(METHOD, ["baseline=grey"], {})


@pytest.mark.parametrize(("name", "level"), [("black", 0.0), ("white", 1.0)])
def test_black_and_white_are_in_units_of_the_tensor(name: str, level: float) -> None:
    expected = per_channel(*((level - m) / s for m, s in zip(MEAN, STD, strict=True)))
    assert_close(attributions(name), attributions(expected))


def test_mean_is_that_of_each_channel_and_image() -> None:
    expected = [attributions(x.mean(axis=(1, 2), keepdims=True), images=x) for x in X]
    assert_close(attributions("mean"), np.concatenate(expected))


def test_blur_is_a_smoother_image() -> None:
    ramp = np.tile(np.linspace(-1, 1, 8, dtype=np.float32), (3, 8, 1))
    assert (
        np.abs(attributions("blur", images=ramp)).max()
        < np.abs(attributions("mean", images=ramp)).max()
    )
    assert not attributions("blur", images=np.ones((3, 8, 8), np.float32)).any()


def test_noise_is_the_same_for_every_image() -> None:
    alone = [attributions("noise", images=x) for x in X]
    assert_close(attributions("noise"), np.concatenate(alone))


@pytest.mark.parametrize("baseline", ["black", "mean", "blur", [0.1, 0.2, 0.3]])
def test_baseline_of_channels_last_model_is_the_same(baseline: Any) -> None:
    actual = attributions(baseline, NHWC, X.transpose(0, 2, 3, 1))
    assert_close(actual, attributions(baseline))


def test_array_is_in_the_layout_of_the_model() -> None:
    other = random_images(1, seed=1)[0]
    actual = attributions(other.transpose(1, 2, 0), NHWC, X.transpose(0, 2, 3, 1))
    assert_close(actual, attributions(other))


def test_list_has_a_number_per_channel() -> None:
    assert_close(attributions([0.1, 0.2, 0.3]), attributions(per_channel(0.1, 0.2, 0.3)))


def test_array_of_another_size_is_refused() -> None:
    with pytest.raises(
        SettingError, match=r"its shape is \(3, 4, 4\), that of the image \(3, 8, 8\)"
    ):
        attributions(np.zeros((3, 4, 4)))


def test_image_file_is_preprocessed_like_the_images(tmp_path: Path) -> None:
    path = tmp_path / "gray.png"
    Image.new("RGB", (20, 20), (51, 51, 51)).save(path)
    expected = per_channel(*((0.2 - m) / s for m, s in zip(MEAN, STD, strict=True)))
    assert_close(attributions(path), attributions(expected))
    assert_close(attributions(str(path)), attributions(expected))


def test_file_that_is_no_image_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "text.png"
    path.write_text("no image")
    with pytest.raises(SettingError, match=r"baseline='.*text.png'"):
        attributions(path)


def test_named_color_needs_channels_of_images() -> None:
    net = replace(DEEP, shape="N, 4, 8, 8", colors=4)
    with pytest.raises(SettingError, match="expects 4 channels"):
        attributions("black", net, random_images(1, (4, 8, 8)))
    assert attributions("mean", net, random_images(1, (4, 8, 8))).any()
