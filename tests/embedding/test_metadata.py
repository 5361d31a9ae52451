"""The properties of a file with an explanation: written, read back, and refused where they are damaged."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from onnxcam.bundled import bundled_explained_model, bundled_model
from onnxcam.embedding.metadata import (
    EmbeddedExplanation,
    ScoreOutput,
    from_properties,
    metadata_of,
    to_properties,
    write_metadata,
)
from onnxcam.embedding.write import embed
from onnxcam.errors import ModelError
from onnxcam.image.preprocess import PRESETS
from onnxcam.model.load import load

SHAPES = load(bundled_model())
LABELS = ("arrow", "crescent", "cross", "disc", "heart", "hourglass", "ring", "square", "star")
FULL = EmbeddedExplanation(
    method="smooth-grad-cam++",
    layers=("/layer3/Relu", "naïve, \N{SNOWMAN}"),
    model_name="shapes.onnx",
    model_sha256=SHAPES.digest,
    target="disc",
    takes_target=True,
    settings={"samples": 25, "noise": 0.15, "generator": "tile"},
    preprocessing=PRESETS["imagenet"],
    takes_pixels=True,
    samples=25,
    rounds=4,
    signed=True,
    score=ScoreOutput("logits", 10, "Softmax"),
    labels=(*LABELS, "triangle"),
)
SHORT = EmbeddedExplanation("grad-cam", ("x",), "m.onnx", "0" * 64, labels=FULL.labels)


@pytest.mark.parametrize("explanation", [FULL, SHORT], ids=["full", "short"])
def test_explanation_written_to_a_file_is_read_back(
    explanation: EmbeddedExplanation, tmp_path: Path
) -> None:
    (path,) = write_metadata(SHAPES, explanation).save(tmp_path / "explained.onnx")
    assert metadata_of(path) == explanation
    assert metadata_of(path.read_bytes()) == explanation


def test_metadata_of_the_original_are_kept() -> None:
    original = {prop.key: prop.value for prop in onnx.load(bundled_model()).metadata_props}
    written = {prop.key: prop.value for prop in write_metadata(SHAPES, FULL).proto().metadata_props}
    assert original.items() <= written.items()
    assert "onnxcam.labels" not in written  # the original's own names are the labels


def test_labels_that_the_original_lacks_are_stored() -> None:
    labels = ("un", "deux\n", '"trois"')
    model = write_metadata(SHAPES, replace(FULL, labels=labels))
    assert "onnxcam.labels" in model.metadata
    explanation = metadata_of(model.proto())
    assert explanation is not None
    assert explanation.labels == labels


def test_labels_of_many_bytes_are_left_out_with_a_notice() -> None:
    without_labels = replace(SHAPES, metadata={})
    model = write_metadata(without_labels, replace(FULL, labels=("x" * 100_000,)))
    assert "onnxcam.labels" not in model.metadata
    assert "100004 bytes" in model.notices[-1]
    assert metadata_of(model.proto()) == replace(FULL, labels=None)


def test_explanation_written_again_replaces_the_earlier_one() -> None:
    model = write_metadata(write_metadata(SHAPES, replace(FULL, labels=("other",))), SHORT)
    assert metadata_of(model.proto()) == SHORT


def test_model_without_an_explanation_has_none() -> None:
    assert metadata_of(bundled_model()) is None


def test_newer_schema_is_refused() -> None:
    with pytest.raises(ModelError, match=r"schema 2, this onnxcam reads 1 .* newer onnxcam"):
        from_properties(to_properties(replace(FULL, schema=2)))


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("schema", "one"),
        ("settings", "{"),
        ("settings", "[1]"),
        ("model", "3"),
        ("layers", "null"),
        ("score", '{"name": 1}'),
        ("preprocessing", '{"scale": 0}'),
        ("samples", '"many"'),
    ],
)
def test_damaged_properties_are_refused_in_one_line(key: str, text: str) -> None:
    properties = {**to_properties(FULL), f"onnxcam.{key}": text}
    with pytest.raises(ModelError, match="explanation are damaged") as caught:
        from_properties(properties, "a.onnx")
    assert str(caught.value).startswith("a.onnx: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("key", ["method", "version", "layers", "model", "samples"])
def test_missing_property_is_refused(key: str) -> None:
    properties = to_properties(FULL)
    del properties[f"onnxcam.{key}"]
    with pytest.raises(ModelError, match=f"KeyError: '{key}'"):
        from_properties(properties)


def test_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.onnx"
    path.write_bytes(b"no model")
    with pytest.raises(ModelError, match="not an ONNX model"):
        metadata_of(path)
    with pytest.raises(ModelError, match="No such file"):
        metadata_of(tmp_path / "missing.onnx")


@pytest.mark.parametrize("read", [Path, Path.read_bytes, load], ids=["path", "bytes", "model"])
def test_model_with_an_explanation_takes_no_other(read: Callable[[Path], Any]) -> None:
    path = bundled_explained_model()
    with pytest.raises(ModelError, match=r"already, smooth-grad-cam\+\+ of shapes\.onnx"):
        embed(read(path), "grad-cam")


def test_default_of_the_input_target_is_stored(tmp_path: Path) -> None:
    """A file for one class, with -1 for that class, said that -1 is the class with the highest score."""
    path = tmp_path / "explained.onnx"
    (file,) = embed(SHAPES, "grad-cam", target="disc", target_input=True).save(path)
    explanation = metadata_of(file)
    assert explanation is not None
    assert (explanation.target, explanation.takes_target) == ("disc", True)
    session = ort.InferenceSession(file, providers=["CPUExecutionProvider"])
    image = np.random.default_rng(0).normal(size=(1, 3, 112, 112)).astype(np.float32)
    index = LABELS.index("disc")
    maps = [
        session.run(["saliency"], {"image": image, "target": np.array([number])})[0]
        for number in (-1, index)
    ]
    assert maps[0].any()
    np.testing.assert_array_equal(maps[0], maps[1])
