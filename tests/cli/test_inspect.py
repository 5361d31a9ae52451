"""`onnxcam inspect`: what a file is, and what explanation it holds."""

import json
from dataclasses import replace
from pathlib import Path

import onnx
import pytest

from onnxcam.bundled import bundled_detector, bundled_explained_model, bundled_model
from onnxcam.embedding.metadata import EmbeddedExplanation, ScoreOutput, write_metadata
from onnxcam.image.preprocess import PRESETS
from onnxcam.model.load import load
from onnxcam.regular_files import digest_file
from tests.cli.conftest import Run

EXPLANATION = EmbeddedExplanation(
    method="smooth-grad-cam++",
    layers=("relu_7",),
    model_name="shapes.onnx",
    model_sha256="ab" * 32,
    target="disc",
    takes_target=True,
    settings={"samples": 25, "noise": 0.15},
    preprocessing=PRESETS["unit"],
    takes_pixels=True,
    samples=25,
    rounds=4,
    score=ScoreOutput("logits", 10, "Softmax"),
)


def write_explained(path: Path, explanation: EmbeddedExplanation = EXPLANATION) -> Path:
    """A file with the metadata, inputs and outputs of an embedded explanation, but another graph."""
    text = """<ir_version: 9, opset_import: ["": 18]>
    net (uint8[N, h, w, 3] pixels, int64[N] target) => (float[N, 10] logits, float[N, 8, 8] saliency) {
        axes = Constant<value = int64[3] {1, 2, 3}>() x = Cast<to = 1>(pixels)
        m = ReduceMean<keepdims = 0>(x, axes) logits = Identity(m) saliency = Identity(m) }"""
    model = replace(load(bundled_model()), metadata={"names": '["a", "b"]'})
    proto = onnx.parser.parse_model(text)
    onnx.helper.set_model_props(proto, write_metadata(model, explanation).metadata)
    path.write_bytes(proto.SerializeToString())
    return path


def test_classifier_is_described(run: Run) -> None:
    result = run("inspect", bundled_model())
    assert result.exit_code == 0
    lines = dict(line.split(maxsplit=1) for line in result.stdout.splitlines())
    assert lines["file"] == "shapes.onnx: 0.7 MB, opset 18, written by pytorch 2.13.0+cpu"
    assert lines["input"] == "image float32 (batch, 3, 112, 112)"
    assert lines["output"] == "logits float32 (batch, 10)"
    assert lines["weights"].startswith("168,204 parameters; float32 0.7 MB")
    assert lines["operators"].startswith("Conv 11, Relu 9, Add 4")
    assert lines["quantized"] == "no"
    assert lines["task"].startswith("classification, because logits has one score per class; 10")
    assert lines["labels"] == "10: arrow, crescent, cross, disc, heart, ... (its metadata)"
    assert lines["images"] == "squash, scale 255, mean 0, std 1, rgb (its metadata)"


def test_detector_has_its_task(run: Run) -> None:
    facts = json.loads(run("inspect", bundled_detector(), "--json").stdout)
    assert (facts["task"]["task"], facts["task"]["classes"]) == ("detection", 10)
    assert facts["problem"] is None
    assert facts["explanation"] is None


def test_explanation_is_described(run: Run, tmp_path: Path) -> None:
    result = run("inspect", write_explained(tmp_path / "explained.onnx"))
    assert result.exit_code == 0
    for line in (
        "input      pixels uint8 (N, h, w, 3): RGB images, 0 to 255, of any size, the same for all",
        "input      target int64 (N): the class to explain, one for each image; -1: disc",
        "output     logits float32 (N, 10): the probabilities (Softmax) of 10 classes",
        "output     saliency float32 (N, 8, 8): the evidence at each pixel",
        "method      smooth-grad-cam++: 25 samples, in 4 rounds",
        "layer       relu_7",
        "target      the class that the input 'target' names; -1: disc",
        "settings    samples=25, noise=0.15",
        "images      squash, scale 255, mean 0, std 1, rgb (prepared in the file)",
        "labels      2: a, b",
        f"original    shapes.onnx, SHA-256 {'ab' * 32}",
    ):
        assert f"\n{line}" in result.stdout


def test_explanation_as_json(run: Run, tmp_path: Path) -> None:
    path = write_explained(tmp_path / "explained.onnx")
    facts = json.loads(run("inspect", path, "--json").stdout)
    assert facts["explanation"]["settings"] == {"samples": 25, "noise": 0.15}
    assert facts["explanation"]["score"]["activation"] == "Softmax"
    assert [value["name"] for value in facts["inputs"]] == ["pixels", "target"]
    assert all(value["meaning"] for value in (*facts["inputs"], *facts["outputs"]))
    assert facts["bytes"] == path.stat().st_size


def test_model_whose_task_is_unknown_is_described_with_the_reason(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "text.onnx"
    text = '<ir_version: 9, opset_import: ["": 17]> net (float x) => (float y) { y = Relu(x) }'
    onnx.save(onnx.parser.parse_model(text), path)
    result = run("inspect", path)
    assert result.exit_code == 0
    assert "\ntask       unknown: text.onnx: no input accepts images" in result.stdout


def test_file_with_gradients_is_described(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "gradients.onnx"
    words = ("augment", bundled_model(), "-l", "relu_7", "-l", "relu_8", "-o", path)
    assert run(*words).exit_code == 0
    result = run("inspect", path)
    assert result.exit_code == 0
    for line in (
        "input      seed float32 (batch, 10): the weights of the scores: 1 for the class to explain",
        "output     logits float32 (batch, 10)",
        "output     gradient/relu_7 float32 (batch, 64, 14, 14): the gradient of the weighted scores",
        "output     activation/relu_8 float32 (batch, 64, 14, 14): the activation of relu_8",
        "gradients  at relu_7, relu_8; written by `onnxcam augment`, explain the original model",
        "labels     10: arrow",
        "images     squash, scale 255, mean 0, std 1, rgb (its metadata)",
    ):
        assert f"\n{line}" in result.stdout
    assert "task" not in result.stdout
    facts = json.loads(run("inspect", path, "--json").stdout)
    assert facts["gradients"] == ["relu_7", "relu_8"]
    assert (facts["task"], facts["problem"]) == (None, None)


@pytest.mark.parametrize("seed", ["seed", "noise"])
@pytest.mark.parametrize("output", ["gradient/x", "x"])
def test_file_with_names_like_those_of_gradients_is_none(
    run: Run, tmp_path: Path, seed: str, output: str
) -> None:
    proto = onnx.parser.parse_model(
        '<ir_version: 9, opset_import: ["": 17]> net (float a) => (float y) { y = Relu(a) }'
    )
    proto.graph.input[0].name = proto.graph.node[0].input[0] = seed
    proto.graph.output[0].name = proto.graph.node[0].output[0] = output
    onnx.save(proto, path := tmp_path / "a.onnx")
    facts = json.loads(run("inspect", path, "--json").stdout)
    assert facts["gradients"] == []
    assert not any("meaning" in value for value in (*facts["inputs"], *facts["outputs"]))


def test_missing_external_data_is_reported(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save_model(
        onnx.load(bundled_model()), path, save_as_external_data=True, location="weights"
    )
    complete = run("inspect", path).stdout
    assert "data       weights: 0.7 MB, complete" in complete
    assert "task       classification" in complete
    (tmp_path / "weights").unlink()
    result = run("inspect", path)
    assert result.exit_code == 0
    assert "No such file" in result.stdout
    assert "task       unknown" in result.stdout


@pytest.mark.parametrize("content", [None, b"", b"no model", b"\x08\x07"])
def test_file_that_is_no_model_is_refused_in_one_line(
    run: Run, tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "a.onnx"
    if content is not None:
        path.write_bytes(content)
    result = run("inspect", path)
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1


def test_damaged_explanation_is_refused(run: Run, tmp_path: Path) -> None:
    path = write_explained(tmp_path / "a.onnx")
    proto = onnx.load(path)
    next(p for p in proto.metadata_props if p.key == "onnxcam.settings").value = "{"
    onnx.save(proto, path)
    result = run("inspect", path)
    assert result.exit_code == 2
    assert "damaged" in result.stderr


def test_bundled_explanation_is_described(run: Run) -> None:
    facts = json.loads(run("inspect", bundled_explained_model(), "--json").stdout)
    explanation = facts["explanation"]
    assert explanation["method"] == "smooth-grad-cam++"
    assert explanation["model_sha256"] == digest_file(bundled_model())
    assert explanation["takes_pixels"]
    assert [value["name"] for value in facts["outputs"]] == ["logits", "saliency", "overlay"]
    assert facts["external_data"] == []


def test_negative_sizes_are_free(run: Run, tmp_path: Path) -> None:
    """Old exporters write -1 for them."""
    text = """<ir_version: 9, opset_import: ["": 17]> net (float[7, 3, 8, 8] x) => (float[7, 3, 8, 8] y) {
        y = Relu(x) }"""
    proto = onnx.parser.parse_model(text)
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = -1
    onnx.save(proto, tmp_path / "old.onnx")
    assert "x float32 (any, 3, 8, 8)" in run("inspect", tmp_path / "old.onnx").stdout
