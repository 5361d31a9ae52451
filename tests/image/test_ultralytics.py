"""Models of Ultralytics see what their own code shows them; their metadata says which task it is."""

import numpy as np
import pytest
from PIL import Image

from onnxcam.image.preprocess import Preprocessing, prepare
from onnxcam.image.preprocessing_choice import choose, notice_of
from onnxcam.specs import ImageInput

SQUARE = ImageInput("images", "NCHW", 3, 64, 64, 1, np.dtype("float32"))
ANY_SIZE = ImageInput("images", "NCHW", 3, None, None, None, np.dtype("float32"))
BYTES = ImageInput("images", "NHWC", 3, 64, 64, 1, np.dtype("uint8"))
METADATA = {"author": "Ultralytics", "stride": "32", "batch": "1", "imgsz": "[96, 160]"}
LETTERBOX = Preprocessing(fit="letterbox", crop_ratio=1.0)


@pytest.mark.parametrize("task", ["detect", "segment", "pose", "obb"])
def test_detector_sees_a_letterbox(task: str) -> None:
    choice = choose("auto", METADATA | {"task": task}, SQUARE)
    assert choice.preprocessing == LETTERBOX
    assert notice_of(choice, SQUARE) is None


def test_classifier_sees_the_central_square() -> None:
    choice = choose("auto", METADATA | {"task": "classify"}, SQUARE)
    assert choice.preprocessing == Preprocessing(fit="crop", crop_ratio=1.0)
    prepared = prepare(Image.new("RGB", (200, 100), (255, 0, 51)), choice.preprocessing, SQUARE)
    assert prepared.box == (50, 0, 150, 100)
    np.testing.assert_allclose(prepared.tensor[0, :, 0, 0].astype(float), [1, 0, 0.2], rtol=1e-6)
    assert notice_of(choice, SQUARE) is None


@pytest.mark.parametrize("description", ["Ultralytics RT-DETR-l model", "Ultralytics rtdetr-x"])
def test_rt_detr_sees_the_squashed_image(description: str) -> None:
    metadata = METADATA | {"task": "detect", "description": description}
    assert choose("auto", metadata, SQUARE).preprocessing.fit == "squash"


def test_size_of_metadata_is_used_for_free_sizes() -> None:
    choice = choose("auto", METADATA | {"task": "detect"}, ANY_SIZE)
    assert choice.preprocessing.size == (96, 160)
    assert notice_of(choice, ANY_SIZE) is None


def test_model_of_integers_gets_pixels_and_a_notice() -> None:
    choice = choose("auto", METADATA | {"task": "detect"}, BYTES)
    assert (choice.preprocessing.scale, choice.preprocessing.fit) == (1.0, "letterbox")
    assert "assumed: --scale 1 --mean 0 --std 1 (in addition" in str(notice_of(choice, BYTES))


def test_normalization_in_metadata_comes_first() -> None:
    choice = choose("auto", METADATA | {"task": "detect", "mean": "0.5", "std": "0.5"}, SQUARE)
    assert choice.preprocessing.mean == (0.5,)
