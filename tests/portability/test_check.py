"""Files are run on the runtimes that are installed, and compared with ONNX Runtime."""

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import parser

from onnxcam.arrays import Array
from onnxcam.errors import RunError, SettingError, UnknownNameError
from onnxcam.portability import check as check_module
from onnxcam.portability.check import check_runtimes, compare_arrays
from onnxcam.portability.feeds import random_feeds
from onnxcam.runtime.device import Device
from onnxcam.runtime.session import Session

NET = """<ir_version: 8, opset_import: ["" : 17]>
net (float[N, 3, 4, 5] image, int64[N] target) => (float[N, 3, 4, 5] y, int64[N] chosen) {
    y = Relu(image) chosen = Abs(target) }"""
# negative pads, which ONNX's evaluator refuses
CROP = """<ir_version: 8, opset_import: ["" : 17]> net (float[N, 4] x) => (float[M, K] y) {
    pads = Constant<value_ints = [0, -1, 0, -1]>() y = Pad(x, pads) }"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "net.onnx"
    onnx.save(parser.parse_model(NET), path)
    return path


def test_runtime_that_agrees_is_right_for_every_output(path: Path) -> None:
    rows = check_runtimes(path, ["onnxruntime", "onnx-reference", "onnxruntime"])
    assert [(row.runtime, row.output) for row in rows] == [
        (runtime, output)
        for runtime in ("onnxruntime", "onnx-reference")
        for output in ("y", "chosen")
    ]
    assert all(row.is_right and row.difference == 0 and row.version for row in rows)


def test_feeds_of_a_call_are_used(path: Path) -> None:
    image = np.ones((3, 3, 4, 5), np.float32)
    feeds: dict[str, Array] = {"image": image, "target": np.zeros(3, np.int64)}
    assert all(row.is_right for row in check_runtimes(path, ["onnx-reference"], feeds))
    with pytest.raises(SettingError, match="has no input 'images'"):
        check_runtimes(path, ["onnxruntime"], {"images": image})


def test_refusal_of_a_runtime_is_a_row(tmp_path: Path) -> None:
    path = tmp_path / "crop.onnx"
    onnx.save(parser.parse_model(CROP), path)
    (row,) = check_runtimes(path, ["onnx-reference"])
    assert row.is_right is False
    assert row.note.startswith("refused: ")
    assert "negative" in row.note


def test_runtime_that_is_not_installed_says_what_installs_it(path: Path, tmp_path: Path) -> None:
    (row,) = check_runtimes(path, ["node"], node_modules=tmp_path)
    assert row.is_right is None
    assert "npm install" in row.note


def test_slow_runtime_is_stopped(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = check_module._run_process
    monkeypatch.setattr(
        check_module,
        "_run_process",
        lambda job, seconds: run(job, 1e-3 if job.parent.name == "onnx-reference" else seconds),
    )
    (row,) = check_runtimes(path, ["onnx-reference"])
    assert row.note == "refused: no result within 0.001 s"


def test_crash_of_a_runtime_is_a_row(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = check_module._run_process

    def crash(job: Path, seconds: float) -> str:
        if job.parent.name != "onnx-reference":
            return run(job, seconds)
        with monkeypatch.context() as patch:
            code = "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"
            program = job.with_name("python")
            program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -c "{code}"\n')
            program.chmod(0o755)
            patch.setattr(sys, "executable", str(program))
            return run(job, seconds)

    monkeypatch.setattr(check_module, "_run_process", crash)
    (row,) = check_runtimes(path, ["onnx-reference"])
    assert row.note == "refused: its process was ended by SIGSEGV"


def test_unknown_runtime_and_a_file_that_does_not_run_are_errors(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    onnx.save(parser.parse_model(CROP), path)
    with pytest.raises(UnknownNameError, match="no runtime 'tensorrt'"):
        check_runtimes(path, ["tensorrt"])
    with pytest.raises(RunError, match="ONNX Runtime does not run"):
        check_runtimes(path, ["onnxruntime"], {"x": np.ones((2, 2, 2), np.float32)})


@pytest.mark.oracle
def test_wrong_operator_of_a_runtime_is_found(tmp_path: Path) -> None:
    """OpenVINO 2026.4 computes an offset of 0 as 0.5."""
    pytest.importorskip("openvino", reason="needs the extra `oracle`")
    path = tmp_path / "net.onnx"
    text = """<ir_version: 8, opset_import: ["" : 17]> net (float[2, 3] x) => (float[2, 3] y) {
        y = HardSigmoid<alpha = 1.0, beta = 0.0>(x) }"""
    onnx.save(parser.parse_model(text), path)
    (row,) = check_runtimes(path, ["openvino"])
    assert row.is_right is False
    assert row.difference > 0.1


def test_random_feeds_are_repeatable_and_fit_the_inputs(path: Path) -> None:
    session = Session(path, Device("cpu"))
    first, second = (random_feeds(session, 2, seed=3) for _ in range(2))
    assert first["image"].shape == (2, 3, 4, 5)
    assert first["target"].tolist() == [-1, -1]
    for name, array in first.items():
        np.testing.assert_array_equal(array, second[name])


@pytest.mark.parametrize(
    ("array", "expected", "difference", "is_right"),
    [
        ([1.0, 2.0], [1.0, 2.0], 0, True),
        ([1.0, 2.002], [1.0, 2.0], 1e-3, False),
        ([1.0, 2.001], [1.0, 2.0], 5e-4, True),
        ([1.0, np.nan], [1.0, 2.0], np.inf, False),
        ([1.0, 2.0], [1.0, np.nan], np.inf, False),
        ([1.0, np.nan], [1.0, np.nan], 0, True),
        ([1.0, -np.inf], [1.0, np.inf], np.inf, False),
        ([0.0, 1e-9], [0.0, 0.0], 1e-9, True),
    ],
)
def test_floats_are_compared_with_the_largest(
    array: list[float], expected: list[float], difference: float, is_right: bool
) -> None:
    computed, verdict = compare_arrays(np.array(array), np.array(expected), 1e-3 * (1 - 1e-9))
    assert computed == pytest.approx(difference, abs=1e-12)
    assert verdict is is_right


def test_integers_are_equal_and_pixels_within_two_levels() -> None:
    pixels = np.array([10, 200], np.uint8)
    assert compare_arrays(pixels + np.uint8(2), pixels, 1e-3)[1]
    assert not compare_arrays(pixels + np.uint8(3), pixels, 1e-3)[1]
    assert not compare_arrays(np.array([7, 8]), np.array([7, 9]), 1e-3)[1]
