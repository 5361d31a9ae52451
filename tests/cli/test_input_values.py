"""`--input` gives values to the inputs of a model that are not the image, in every command that loads one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from onnxcam.cli.parsing import parse_inputs
from onnxcam.errors import SettingError
from tests.cli.conftest import Run
from tests.cli.support.tiny import write_model

DETECTOR = Path(__file__).parents[3] / "shared" / "data" / "models" / "deimv2_atto.onnx"


@pytest.fixture
def scaled(tmp_path: Path) -> Path:
    """The small classifier with its logits times the input `factors` (1, 2), summed."""
    path = write_model(tmp_path / "scaled.onnx")
    proto = onnx.load(path)
    graph = proto.graph
    graph.input.append(helper.make_tensor_value_info("factors", TensorProto.FLOAT, ["n", 2]))
    softmax = graph.node.pop()
    axes = helper.make_node("Constant", [], ["axes"], value_ints=[1])
    total = helper.make_node("ReduceSum", ["factors", "axes"], ["total"])
    product = helper.make_node("Mul", ["logits", "total"], ["scaled"])
    softmax.input[0] = "scaled"
    graph.node.extend([axes, total, product, softmax])
    onnx.save(proto, path)
    return path


def manifest_of(out: Path) -> Any:
    return json.loads((out / "cat.grad-cam.json").read_text())


@pytest.mark.parametrize(
    ("text", "name", "values"),
    [
        ("s=640,480", "s", [640, 480]),
        ("s=1", "s", 1),
        ("s = -1.5e3", "s ", -1500.0),
        ("s=1, 2;3,4", "s", [[1, 2], [3, 4]]),
        ("flag=True", "flag", True),
        ("flags=true,false", "flags", [True, False]),
        ("a=b=2", "a=b", 2),
        ("s=9007199254740993", "s", 9007199254740993),
        ("m=inf", "m", float("inf")),
    ],
)
def test_numbers_are_parsed(text: str, name: str, values: Any) -> None:
    parsed = parse_inputs([text])
    assert parsed == {name: values}
    assert type(parsed[name]) is type(values)


def test_array_files_are_read(tmp_path: Path) -> None:
    folder = tmp_path / "lr=0.1"  # a path may have the sign that ends the name
    folder.mkdir()
    array = np.arange(6, dtype=np.int16).reshape(1, 2, 3)
    np.save(folder / "a.npy", array)
    values = parse_inputs([f"m={folder / 'a.npy'}", "s=1"])
    np.testing.assert_array_equal(values["m"], array)
    assert values["m"].dtype == np.int16


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        (["s"], "expected NAME=VALUES"),
        (["=1"], "expected NAME=VALUES"),
        (["s="], "expected numbers"),
        (["s=a"], "expected numbers"),
        (["s=1,,2"], "expected numbers"),
        (["s=mask.npz"], r"mask.npz: no such file; check the path"),
        (["s=1,2;3"], "rows have different numbers"),
        (["s=1", "s=2"], "s is set twice"),
        (["s=missing.npy"], r"missing.npy cannot be read \(No such file"),
    ],
)
def test_malformed_value_is_refused(texts: list[str], words: str) -> None:
    with pytest.raises(SettingError, match=words):
        parse_inputs(texts)


@pytest.mark.parametrize("content", ["pickle", "text", "empty", "cut", "huge", "archive", "folder"])
def test_unreadable_array_file_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "a.npy"
    if content == "pickle":
        np.save(path, np.array([{}], object), allow_pickle=True)
    elif content == "archive":
        np.savez(tmp_path / "a.npz", np.ones(2))
        (tmp_path / "a.npz").rename(path)
    elif content == "folder":
        path.mkdir()
    elif content in ("cut", "huge"):
        np.save(path, np.ones(64))
        size = (b"(64,)", b"(10**15,)") if content == "huge" else (b"", b"")
        path.write_bytes(path.read_bytes().replace(*size)[: 1 << 8])
    else:
        path.write_bytes(b"1,2" if content == "text" else b"")
    with pytest.raises(SettingError, match=r"a\.npy cannot be read .*numpy\.save"):
        parse_inputs([f"s={path}"])


def test_explain_records_values_and_repeats_only_for_other_ones(
    run: Run, scaled: Path, image: Path, out: Path
) -> None:
    words = ("explain", scaled, image, "-m", "grad-cam", "-o", out, "--skip-existing")
    assert run(*words, "--input", "factors=1,2").exit_code == 0
    assert manifest_of(out)["inputs"]["factors"]["values"] == [[1.0, 2.0]]
    score = manifest_of(out)["target"]["score"]
    assert "1 already existed" in run(*words, "--input", "factors=1.0,2").stderr
    assert "1 map written" in run(*words, "--input", "factors=2,4").stderr
    assert manifest_of(out)["target"]["score"] == pytest.approx(2 * score, rel=1e-5)
    np.save(out / "factors.npy", np.array([[2, 4]]))
    assert "1 already existed" in run(*words, "--input", f"factors={out / 'factors.npy'}").stderr


def test_missing_value_is_named_with_what_to_type(run: Run, scaled: Path, image: Path) -> None:
    for words in (("explain", scaled, image), ("check", scaled), ("layers", scaled)):
        result = run(*words)
        assert result.exit_code == 2
        assert "--input factors=NUMBERS (float32, shape (n, 2))" in result.stderr
        assert "inputs={'factors': ...}" in result.stderr


def test_model_commands_take_values(run: Run, scaled: Path, tmp_path: Path) -> None:
    value = ("--input", "factors=1,2")
    assert "relu2" in run("layers", scaled, *value).stdout
    checked = run("check", scaled, *value)
    assert checked.exit_code == 0
    assert "factors: [[1.0, 2.0]] (float32, shape (1, 2))" in checked.stdout
    report = json.loads(run("check", scaled, *value, "--json").stdout)
    assert report["values"]["factors"]["shape"] == [1, 2]
    augmented = tmp_path / "augmented.onnx"
    assert run("augment", scaled, *value, "-o", augmented).exit_code == 0
    assert [tensor.name for tensor in onnx.load(augmented).graph.input] == ["image", "seed"]


def test_value_that_does_not_fit_is_one_line(run: Run, scaled: Path, image: Path) -> None:
    result = run("explain", scaled, image, "--input", "factors=1,2,3", "--input", "image=0")
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert "'factors' (float32, shape (n, 2)): got an array of shape (1, 3)" in result.stderr
    assert "'image' is the image" in result.stderr


@pytest.mark.skipif(not DETECTOR.exists(), reason="needs the model of a detector")
def test_detector_with_image_sizes_is_explained(run: Run, image: Path, out: Path) -> None:
    words = ("explain", DETECTOR, image, "-m", "grad-cam", "-o", out)
    result = run(*words, "--input", "orig_target_sizes=640,480")
    assert result.exit_code == 0
    assert manifest_of(out)["inputs"]["orig_target_sizes"]["values"] == [[640, 480]]
