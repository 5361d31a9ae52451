"""`explain` and `check` say when a file beside the model describes its images, and notice when it changes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from tests.cli.conftest import Run

PROCESSOR = {
    "do_resize": True,
    "size": 16,
    "do_normalize": True,
    "image_mean": 0.5,
    "image_std": 0.5,
}


def test_changed_file_makes_results_anew(run: Run, model: Path, image: Path, out: Path) -> None:
    own = out.parent / "model.onnx"
    shutil.copy(model, own)
    file = own.parent / "preprocessor_config.json"
    words = ("explain", own, image, "-m", "grad-cam", "-o", out, "--skip-existing")
    file.write_text(json.dumps(PROCESSOR))
    first = run(*words)
    assert first.exit_code == 0
    assert "note: images are prepared as preprocessor_config.json beside the model" in first.stderr
    assert "1 already existed" in run(*words).stderr
    manifest = json.loads((out / "cat.grad-cam.json").read_text())
    assert list(manifest["described_by"]) == ["preprocessor_config.json"]
    file.write_text(json.dumps(PROCESSOR | {"image_mean": 0.25}))
    assert "already existed" not in run(*words).stderr
    file.unlink()
    again = run("explain", "--from", out / "cat.grad-cam.json", "-o", out.parent / "again")
    assert again.exit_code == 0
    repeated = json.loads((out.parent / "again" / "cat.grad-cam.json").read_text())
    assert repeated["preprocessing"]["mean"] == [0.25]


def test_check_names_the_file(run: Run, model: Path, tmp_path: Path) -> None:
    own = tmp_path / "model.onnx"
    shutil.copy(model, own)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(PROCESSOR))
    result = run("check", own)
    assert "images are prepared as preprocessor_config.json beside the model says" in result.stdout
    (tmp_path / "preprocessor_config.json").write_text("[")
    assert "preprocessor_config.json beside the model is ignored" in run("check", own).stdout
