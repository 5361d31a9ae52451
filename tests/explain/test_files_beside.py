"""An explainer uses the files beside its model, says so, and records them."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import onnxcam
from onnxcam.digests import digest_bytes
from tests.support.nets import DEEP

PROCESSOR = {"do_resize": True, "size": 8, "do_normalize": True, "image_mean": [0.5] * 3,
             "image_std": [0.25] * 3}  # fmt: skip
NAMES = ("cat", "dog", "owl", "fish", "bee")
IMAGE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    path.write_bytes(DEEP.proto().SerializeToString())
    return path


def make_explainer(model: Any, **options: Any) -> onnxcam.Explainer:
    return onnxcam.Explainer(model, "grad-cam", device="cpu", **options)


def write(folder: Path, name: str, content: object) -> bytes:
    text = json.dumps(content)
    (folder / name).write_text(text)
    return text.encode()


def test_files_give_preprocessing_and_labels(model: Path) -> None:
    processor = write(model.parent, "preprocessor_config.json", PROCESSOR)
    config = write(model.parent, "config.json", {"id2label": dict(enumerate(NAMES))})
    explainer = make_explainer(model)
    assert explainer.labels == NAMES
    assert explainer.preprocessing.mean == (0.5,) * 3
    with pytest.warns(
        onnxcam.OnnxcamNotice, match=r"as preprocessor_config\.json beside the model"
    ):
        explanation = explainer(IMAGE)
    assert explanation.targets[0] in NAMES
    assert explanation.provenance["described_by"] == {
        "preprocessor_config.json": digest_bytes(processor),
        "config.json": digest_bytes(config),
    }
    assert explanation.provenance["preprocessing"]["std"] == [0.25] * 3


def test_tensor_is_the_one_that_the_file_describes(model: Path) -> None:
    write(model.parent, "preprocessor_config.json", PROCESSOR)
    with pytest.warns(onnxcam.OnnxcamNotice):
        by_file = make_explainer(model)(IMAGE, target=1)
    pixels = np.asarray(IMAGE.resize((8, 8), Image.Resampling.BILINEAR), np.float32)
    tensor = ((pixels / 255 - 0.5) / 0.25).transpose(2, 0, 1)
    by_hand = make_explainer(model)(tensor, target=1)
    np.testing.assert_allclose(by_file.maps, by_hand.maps, rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize("kind", ["bytes", "model"])
def test_model_in_memory_has_no_files(model: Path, kind: str) -> None:
    write(model.parent, "preprocessor_config.json", PROCESSOR)
    source = model.read_bytes() if kind == "bytes" else onnxcam.load(model)
    explainer = make_explainer(source)
    assert explainer.preprocessing.mean == (0.485, 0.456, 0.406)
    assert "described_by" not in explainer.origin().provenance


def test_user_comes_before_the_files(model: Path) -> None:
    write(model.parent, "preprocessor_config.json", PROCESSOR)
    write(model.parent, "config.json", {"id2label": dict(enumerate(NAMES))})
    explainer = make_explainer(model, preprocess="tf", labels=None)
    assert explainer.preprocessing.scale == 127.5
    assert explainer.labels is None
    assert explainer.preprocessing_notice is None
    assert make_explainer(model, labels=NAMES[::-1]).labels == NAMES[::-1]


def test_labels_of_another_number_are_ignored_with_a_notice(model: Path) -> None:
    write(model.parent, "config.json", {"id2label": dict(enumerate(NAMES[:3]))})
    explainer = make_explainer(model)
    assert explainer.labels is None
    assert any(
        "the labels in config.json beside the model are not used: 3 labels for 5" in notice
        for notice in explainer.notices
    )


def test_damaged_file_is_a_notice(model: Path) -> None:
    (model.parent / "preprocessor_config.json").write_text("{")
    (notice,) = [n for n in make_explainer(model).notices if "preprocessor_config" in n]
    assert "ignored, because it is damaged" in notice


def test_unpickled_explainer_reads_the_files_again(model: Path) -> None:
    write(model.parent, "preprocessor_config.json", PROCESSOR)
    again = pickle.loads(pickle.dumps(make_explainer(model)))
    assert again.preprocessing.mean == (0.5,) * 3


def test_cached_model_sees_a_new_file(model: Path) -> None:
    assert make_explainer(model).preprocessing.std == (0.229, 0.224, 0.225)
    write(model.parent, "preprocessor_config.json", PROCESSOR)
    assert make_explainer(model).preprocessing.std == (0.25,) * 3
