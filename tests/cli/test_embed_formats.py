"""`onnxcam embed --format`: folders instead of a file."""

import json
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from onnxcam.bundled import bundled_model, sample_images
from onnxcam.embedding.formats.web import RUNTIME
from onnxcam.embedding.metadata import metadata_of
from tests.cli.conftest import Run

QUICK = ("-m", "grad-cam")


def test_triton_repository_is_written(run: Run, tmp_path: Path) -> None:
    words = ("--format", "triton", *QUICK, "--target-input")
    result = run("embed", bundled_model(), "-o", tmp_path / "models", *words)
    assert result.exit_code == 0
    folder = tmp_path / "models" / "shapes"
    assert 'name: "target" data_type: TYPE_INT64' in (folder / "config.pbtxt").read_text()
    assert result.stdout.startswith(f"{folder / '1' / 'model.onnx'}: ")
    assert result.stdout.splitlines()[-1].startswith("start the server with: tritonserver")
    session = ort.InferenceSession(folder / "1/model.onnx", providers=["CPUExecutionProvider"])
    images = np.zeros((2, 3, 112, 112), np.float32)
    (saliency,) = session.run(["saliency"], {"image": images, "target": np.array([-1, 3])})
    assert saliency.shape == (2, 112, 112)


def test_web_page_gets_a_file_that_takes_pixels(run: Run, tmp_path: Path) -> None:
    for name in RUNTIME:
        path = tmp_path / "node_modules" / "onnxruntime-web" / "dist" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    images = ("--sample", sample_images()[0], "--sample", sample_images()[0])
    words = ("--format", "web", "--runtime", tmp_path / "node_modules", *images, *QUICK)
    result = run("embed", bundled_model(), "-o", tmp_path / "site", *words)
    assert result.exit_code == 0
    assert "python -m http.server" in result.stdout
    explanation = metadata_of(tmp_path / "site" / "explained.onnx")
    assert explanation is not None
    assert explanation.takes_pixels
    facts = json.loads((tmp_path / "site" / "explanation.json").read_text())
    assert facts["fit"] == "squash"
    assert len(set(facts["samples"])) == 2
    assert all((tmp_path / "site" / name).is_file() for name in facts["samples"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--format", "tritn"), "no format 'tritn'; did you mean triton?"),
        (("--format", "web"), "npm install onnxruntime-web"),
        (("--format", "triton", "--sample", "a.png"), "--sample is for --format web"),
        (("--format", "triton", "--runtime", "modules"), "--runtime is for --check node"),
        (("--runtime", "modules", "--check", "openvino"), "--runtime is for --check node"),
    ],
)
def test_unusable_format_is_refused_at_once(
    run: Run, tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    result = run("embed", tmp_path / "missing.onnx", "-o", tmp_path / "out", *words)
    assert result.exit_code == 2
    assert message in result.stderr
    assert not (tmp_path / "out").exists()


def test_repository_that_exists_is_kept(run: Run, tmp_path: Path) -> None:
    (tmp_path / "models" / "shapes").mkdir(parents=True)
    mine = tmp_path / "models" / "shapes" / "config.pbtxt"
    mine.write_text("mine")
    words = ("--format", "triton", *QUICK)
    result = run("embed", bundled_model(), "-o", tmp_path / "models", *words)
    assert result.exit_code == 2
    assert mine.read_text() == "mine"
    assert (
        run("embed", bundled_model(), "-o", tmp_path / "models", *words, "--force").exit_code == 0
    )
    assert mine.read_text() != "mine"
