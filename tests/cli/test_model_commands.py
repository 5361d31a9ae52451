"""`onnxcam layers`, `check` and `augment`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from tests.cli.conftest import Run
from tests.cli.tiny import write_model
from tests.nets import MIXING


def test_layers_as_a_table(run: Run, model: Path) -> None:
    found = run("layers", model)
    assert found.exit_code == 0
    heading, *rows = found.stdout.splitlines()
    assert heading.split() == ["layer", "operator", "shape", "layout", "grid", "channels", "marks"]
    assert rows[-1].split() == [
        *("relu2", "Relu", "n", "x", "8", "x", "8", "x", "8", "NCHW", "8", "x", "8", "8"),
        *("auto", "whole"),
    ]


def test_layers_as_json(run: Run, model: Path) -> None:
    found = json.loads(run("layers", model, "--all", "--json").stdout)
    assert [each["name"] for each in found] == ["conv1", "relu1", "conv2", "relu2"]
    assert [each["automatic"] for each in found] == [False, False, False, True]
    assert found[0]["grid"] == [16, 16]


def test_layers_of_several_branches(run: Run, tmp_path: Path) -> None:
    """No layer sees everything, so those that are taken together are shown."""
    path = tmp_path / "branches.onnx"
    text = """<ir_version: 9, opset_import: ["": 17]> net (float[N, 3, 8, 8] x) => (float[N, 3] y) {
        a = Relu(x) b = Sigmoid(x) c = Relu(b) p = GlobalAveragePool(a) q = GlobalAveragePool(c)
        s = Add(p, q) y = Flatten(s) }"""
    onnx.save(onnx.parser.parse_model(text), path)
    found = run("layers", path)
    assert [row.split()[0] for row in found.stdout.splitlines()[1:]] == ["a", "c"]
    assert [row.split()[-2:] for row in found.stdout.splitlines()[1:]] == [["auto", "smooth"]] * 2
    assert "1 more, inside of branches" in found.stderr


def test_layers_of_no_model(run: Run, tmp_path: Path) -> None:
    found = run("layers", tmp_path / "gone.onnx")
    assert found.exit_code == 2
    assert found.stderr.startswith("error: ")


def test_check_of_a_sound_model(run: Run, model: Path) -> None:
    found = run("check", model)
    assert found.exit_code == 0, found.output
    for word in (
        "NCHW",
        "5 classes",
        "Softmax",
        "relu2",
        "all 4 layers",
        "Conv",
        "can be explained",
    ):
        assert word in found.stdout
    report = json.loads(run("check", model, "--json").stdout)
    assert report["explainable"] is True
    assert report["trial"]["layer"] == "relu2"
    assert report["operators"][0]["rule"] is True
    assert report["devices"][0] == {"name": "cpu", "usable": True, "fault": None}


def test_check_names_what_has_no_rule(run: Run, tmp_path: Path) -> None:
    path = write_model(tmp_path / "late.onnx", stochastic=("late",))
    found = run("check", path)
    assert found.exit_code == 2
    assert "late_draw" in found.stdout
    assert "none of 4 layers" in found.stdout
    report = json.loads(run("check", path, "--json").stdout)
    assert report["explainable"] is False
    assert report["operators"][0]["operator"] == "Bernoulli"
    assert "Bernoulli" in report["trial"]["fault"]


def test_check_tells_that_images_are_run_one_at_a_time(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "mixing.onnx"
    path.write_bytes(MIXING.with_batch("N").content())
    found = run("check", path)
    assert found.exit_code == 0
    assert "so each is run by itself" in found.stdout


def test_check_tells_how_far_gradients_reach(run: Run, tmp_path: Path) -> None:
    path = write_model(tmp_path / "early.onnx", stochastic=("early",))
    report = json.loads(run("check", path, "--json").stdout)
    assert report["reach"] == {"layers": 6, "explainable": 1, "earliest": "early_drawn"}


def test_check_of_a_feature_map(run: Run, model: Path) -> None:
    """Its channels are like the classes of a segmenter: the mean of each can be explained."""
    report = json.loads(run("check", model, "--output", "relu1", "--json").stdout)
    assert report["score"]["output"] == "onnxcam/classes"


def test_check_of_what_is_not_there(run: Run, model: Path) -> None:
    found = run("check", model, "--output", "relu9")
    assert found.exit_code == 2
    assert found.stderr.startswith("error: ")
    assert len(found.stderr.splitlines()) == 1


def test_augment_writes_a_model_that_returns_gradients(run: Run, model: Path, out: Path) -> None:
    path = out / "augmented.onnx"
    found = run("augment", model, "-l", "relu1", "-l", "auto", "-o", path)
    assert found.exit_code == 0, found.output
    assert "seed" in found.stdout
    onnx.checker.check_model(path, full_check=True)
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_outputs()]
    assert {"gradient/relu1", "activation/relu1", "gradient/relu2", "probabilities"} <= set(names)
    image = np.random.default_rng(0).standard_normal((2, 3, 16, 16)).astype(np.float32)
    (gradient,) = session.run(
        ["gradient/relu2"], {"image": image, "seed": np.eye(2, 5, dtype=np.float32)}
    )
    assert gradient.shape == (2, 8, 8, 8)
    assert np.abs(gradient).max() > 0


def test_augment_overwrites_nothing(run: Run, model: Path, out: Path) -> None:
    path = out / "augmented.onnx"
    path.parent.mkdir()
    path.write_bytes(b"mine")
    refused = run("augment", model, "-o", path)
    assert refused.exit_code == 2
    assert "--force" in refused.stderr
    assert path.read_bytes() == b"mine"
    assert run("augment", model, "-o", path, "--force").exit_code == 0
    assert path.read_bytes() != b"mine"
    before = model.read_bytes()
    assert run("augment", model, "-o", model, "--force").exit_code == 2
    assert model.read_bytes() == before


@pytest.mark.parametrize("words", [("-l", "relu9"), ("--output", "logit")])
def test_augment_leaves_nothing_where_it_fails(
    run: Run, model: Path, out: Path, words: tuple[str, ...]
) -> None:
    found = run("augment", model, *words, "-o", out / "augmented.onnx")
    assert found.exit_code == 2
    assert "did you mean" in found.stderr
    assert not out.exists()
