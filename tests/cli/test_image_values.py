"""Images and members of archives as values of inputs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import onnxcam
from onnxcam.cli.parsing import parse_inputs
from tests.cli.conftest import Run
from tests.cli.support.tiny import write_image
from tests.explain.support.tracker import tracker

SEARCH = np.random.default_rng(2).normal(size=(3, 8, 8)).astype(np.float32)


def test_command_line_takes_images_and_members_of_archives(
    run: Run, out: Path, tmp_path: Path
) -> None:
    photo = write_image(tmp_path / "a=dog.png")
    path = tmp_path / "tracker.onnx"
    path.write_bytes(tracker())
    np.save(tmp_path / "scene.npy", SEARCH)
    np.savez(tmp_path / "sizes.npz", a=np.array([1, 2]), b=np.array([3, 4]))
    words = ["--preprocess", "unit", "--input", f"template={photo}"]
    words += ["--input", f"sizes={tmp_path / 'sizes.npz'}:a"]
    result = run(
        "explain", path, tmp_path / "scene.npy", "-m", "grad-cam", *words, "-t", 1, "-o", out
    )
    assert result.exit_code == 0, result.output
    inputs = {"template": photo, "sizes": [1, 2]}
    explainer = onnxcam.Explainer(
        path, "grad-cam", inputs=inputs, preprocess="unit", device="cpu", cache=False
    )
    expected = explainer(SEARCH, 1).maps[0]
    with np.load(out / "scene.grad-cam.npz") as stored:
        np.testing.assert_allclose(stored["map"], expected, rtol=1e-5)
    for command in ("check", "layers"):
        assert run(command, path, *words[2:]).exit_code == 0
    missing = run("layers", path, *words[2:4], "--input", f"sizes={tmp_path / 'sizes.npz'}")
    assert missing.exit_code == 2
    assert "holds 2 arrays; name one of them" in missing.stderr


@pytest.mark.parametrize("number", ["1.e5", "1.5e3", "-0.5"])
def test_numbers_that_look_like_files_stay_numbers(number: str) -> None:
    assert parse_inputs([f"temperature={number}"]) == {"temperature": float(number)}
