"""Files beside a model are read if they describe it, and never executed; damaged ones give a notice."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnxcam.image.files_beside import FilesBeside
from onnxcam.image.preprocess import Preprocessing
from onnxcam.image.preprocessing_choice import choose, notice_of, with_settings
from onnxcam.specs import ImageInput

PROCESSOR = {"do_resize": True, "size": {"height": 64, "width": 64}, "do_rescale": True,
             "do_normalize": True, "image_mean": [0.5] * 3, "image_std": [0.25] * 3}  # fmt: skip
TIMM = {
    "architecture": "resnet18",
    "num_classes": 2,
    "label_names": ["cat", "dog"],
    "pretrained_cfg": {
        "input_size": [3, 96, 128], "mean": [0.1, 0.2, 0.3], "std": [0.5, 0.6, 0.7],
        "interpolation": "bicubic", "crop_pct": 0.95, "crop_mode": "center",
    },
}  # fmt: skip
FIXED = ImageInput("x", "NCHW", 3, 64, 64, 1, np.dtype("float32"))
FREE = ImageInput("x", "NCHW", 3, None, None, 1, np.dtype("float32"))
BYTES = ImageInput("x", "NHWC", 3, 64, 64, 1, np.dtype("uint8"))


def beside(folder: Path, **files: Any) -> FilesBeside:
    """Files beside `model.onnx` in the folder; texts and bytes as they are, other values as JSON."""
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        path = folder / f"{name}.json"
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            path.write_text(content if isinstance(content, str) else json.dumps(content))
    return FilesBeside(folder / "model.onnx")


def test_processor_is_used_and_named(tmp_path: Path) -> None:
    choice = choose("auto", {}, FIXED, beside(tmp_path, preprocessor_config=PROCESSOR))
    assert choice.preprocessing == Preprocessing(
        255.0, (0.5,) * 3, (0.25,) * 3, fit="squash", crop_ratio=1.0, pad=(127.5,) * 3
    )
    text = str(notice_of(choice, FIXED))
    assert text == (
        "images are prepared as preprocessor_config.json beside the model says: --scale 255 "
        "--mean 0.5,0.5,0.5 --std 0.25,0.25,0.25 --order rgb --fit squash; --preprocess NAME "
        "(imagenet, tf, caffe, unit, raw) replaces it"
    )


def test_processor_inside_a_larger_file_is_used(tmp_path: Path) -> None:
    files = beside(tmp_path, processor_config={"image_processor": PROCESSOR, "tokenizer": {}})
    assert choose("auto", {}, FIXED, files).preprocessing.std == (0.25,) * 3
    assert list(files.digests) == ["processor_config.json"]


def test_config_of_timm_is_used(tmp_path: Path) -> None:
    files = beside(tmp_path, config=TIMM)
    chosen = choose("auto", {}, FREE, files).preprocessing
    assert (chosen.mean, chosen.std) == ((0.1, 0.2, 0.3), (0.5, 0.6, 0.7))
    assert (chosen.size, chosen.fit, chosen.crop_ratio) == ((96, 128), "crop", 0.95)
    assert chosen.resample == "bicubic"
    assert files.labels == ("cat", "dog")


@pytest.mark.parametrize(
    ("mode", "crop_pct", "fit", "assumed"),
    [
        ("squash", 0.9, "squash-crop", ()),
        ("border", 1.0, "letterbox", ()),
        ("border", 0.9, "letterbox", ("fit",)),
        ("random", 0.9, "crop", ("fit",)),
    ],
)
def test_crop_modes_of_timm(
    tmp_path: Path, mode: str, crop_pct: float, fit: str, assumed: tuple[str, ...]
) -> None:
    cfg = TIMM["pretrained_cfg"] | {"crop_mode": mode, "crop_pct": crop_pct}  # type: ignore[operator]
    choice = choose("auto", {}, FREE, beside(tmp_path, config={"pretrained_cfg": cfg}))
    assert choice.preprocessing.fit == fit
    assert choice.assumed == assumed


def test_repository_with_a_folder_of_models_is_read(tmp_path: Path) -> None:
    beside(tmp_path / "repository", preprocessor_config=PROCESSOR)
    model = tmp_path / "repository" / "onnx" / "model.onnx"
    assert FilesBeside(model).preprocessing is not None
    assert FilesBeside(tmp_path / "repository" / "models" / "model.onnx").preprocessing is None


def test_own_folder_comes_before_the_repository(tmp_path: Path) -> None:
    beside(tmp_path, preprocessor_config=PROCESSOR | {"image_mean": [0.1] * 3})
    files = beside(tmp_path / "onnx", preprocessor_config=PROCESSOR)
    assert choose("auto", {}, FIXED, files).preprocessing.mean == (0.5,) * 3


def test_metadata_of_the_model_comes_first(tmp_path: Path) -> None:
    files = beside(tmp_path, preprocessor_config=PROCESSOR)
    assert choose("auto", {"mean": "0.3", "std": "0.4"}, FIXED, files).preprocessing.mean == (0.3,)
    detector = {"author": "Ultralytics", "task": "detect"}
    choice = choose("auto", detector, FIXED, files)
    assert choice.preprocessing.fit == "letterbox"
    assert not files.digests
    assert notice_of(choice, FIXED) is None


def test_file_comes_before_an_assumption(tmp_path: Path) -> None:
    files = beside(tmp_path, preprocessor_config=PROCESSOR)
    for metadata in ({"author": "Some Lab"}, {"names": "{}", "stride": "32"}):
        assert choose("auto", metadata, FIXED, files).file == "preprocessor_config.json"


def test_settings_of_the_user_come_before_the_file(tmp_path: Path) -> None:
    files = beside(tmp_path, preprocessor_config=PROCESSOR)
    choice = with_settings(choose("auto", {}, FIXED, files), mean=(0.9,), fit="crop")
    assert choice.preprocessing.mean == (0.9,)
    assert choice.preprocessing.std == (0.25,) * 3
    assert choose("tf", {}, FIXED, files).preprocessing.scale == 127.5
    assert notice_of(choose("tf", {}, FIXED, files), FIXED) is None


def test_size_is_used_only_where_the_model_leaves_it_open(tmp_path: Path) -> None:
    files = beside(tmp_path, preprocessor_config=PROCESSOR | {"size": 80})
    assert choose("auto", {}, FREE, files).preprocessing.size == (80, 80)
    assert choose("tf", {}, FREE, files).preprocessing.size == (80, 80)
    assert choose("auto", {"imgsz": "[96, 96]"}, FREE, files).preprocessing.size == (96, 96)
    choice = choose("auto", {}, FIXED, files)
    assert choice.preprocessing.size is None
    assert "(it names 80 x 80 pixels, but the model expects 64 x 64: is it of this model?)" in str(
        notice_of(choice, FIXED)
    )


def test_model_of_integers_gets_pixels(tmp_path: Path) -> None:
    choice = choose("auto", {}, BYTES, beside(tmp_path, preprocessor_config=PROCESSOR))
    chosen = choice.preprocessing
    assert (chosen.scale, chosen.mean, chosen.std, chosen.fit) == (1.0, (0.0,), (1.0,), "squash")
    assert "assumed: --scale 1 --mean 0 --std 1 (in addition to" in str(notice_of(choice, BYTES))


def test_open_settings_are_assumed_with_a_notice(tmp_path: Path) -> None:
    size = {"shortest_edge": 800, "longest_edge": 1333}
    files = beside(tmp_path, preprocessor_config=PROCESSOR | {"size": size})
    text = str(notice_of(choose("auto", {}, FREE, files), FREE))
    assert "says: --scale 255 --mean 0.5,0.5,0.5 --std 0.25,0.25,0.25 --order rgb;" in text
    assert "assumed: --fit letterbox-corner (in addition to preprocessor_config.json)" in text


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        ("{", "Expecting property name"),
        (b"{\xff}", "codec can't decode"),
        (json.dumps(PROCESSOR | {"image_std": [0, 0, 0]}), "std .* expected numbers above 0"),
        (json.dumps(PROCESSOR | {"size": "large"}), "large"),
        ("[" * 100_000, "damaged"),
    ],
)
def test_damaged_file_gives_a_notice(tmp_path: Path, content: Any, cause: str) -> None:
    files = beside(tmp_path, preprocessor_config=content)
    assert choose("auto", {}, FIXED, files).preprocessing.mean == (0.485, 0.456, 0.406)
    assert len(files.problems) == 1
    assert files.problems[0].startswith("preprocessor_config.json beside the model is ignored")
    assert re.search(cause, files.problems[0])
    assert "\n" not in files.problems[0]


def test_folder_of_that_name_gives_a_notice(tmp_path: Path) -> None:
    (tmp_path / "preprocessor_config.json").mkdir()
    files = FilesBeside(tmp_path / "model.onnx")
    assert files.preprocessing is None
    assert "too large or cannot be read" in files.problems[0]


@pytest.mark.parametrize("content", [[], 3, None, {}, {"theme": "dark"}, {"size": 5}])
def test_unrelated_file_is_ignored(tmp_path: Path, content: Any) -> None:
    files = beside(tmp_path, config=content, preprocessor_config=content)
    assert files.preprocessing is None
    assert files.labels is None
    assert not files.problems
    assert not files.digests


@pytest.mark.parametrize(
    ("config", "labels"),
    [
        ({"id2label": {"0": "cat", "1": "dog"}, "label2id": {"cat": 0, "dog": 1}}, ("cat", "dog")),
        ({"label2id": {"dog": 1, "cat": 0}}, ("cat", "dog")),
        ({"id2label": {"0": "LABEL_0", "1": "LABEL_1"}}, None),
        ({"id2label": {}}, None),
        ({"num_labels": 2}, None),
    ],
)
def test_labels_of_config(tmp_path: Path, config: Any, labels: Any) -> None:
    files = beside(tmp_path, config=config)
    assert files.labels == labels
    assert not files.problems
    assert bool(files.digests) is (labels is not None)


def test_damaged_labels_give_a_notice(tmp_path: Path) -> None:
    files = beside(tmp_path, config={"id2label": [{"a": 1}]})
    assert files.labels is None
    assert len(files.problems) == 1


def test_model_that_is_in_no_file_has_none_beside_it() -> None:
    files = FilesBeside(None)
    assert files.preprocessing is None
    assert files.labels is None


@settings(max_examples=200, derandomize=True, deadline=None, database=None)
@given(
    st.dictionaries(
        st.sampled_from([*PROCESSOR, *TIMM, "mean", "std", "input_size", "id2label"]),
        st.recursive(
            st.none() | st.integers() | st.floats() | st.text(max_size=4),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner),
            max_leaves=4,
        ),
    )
)
def test_any_json_is_used_or_reported(
    tmp_path_factory: pytest.TempPathFactory, content: Any
) -> None:
    files = beside(tmp_path_factory.getbasetemp() / "any", config=content)
    assert isinstance(choose("auto", {}, FREE, files).preprocessing, Preprocessing)
    assert files.labels is None or all(isinstance(name, str) for name in files.labels)
