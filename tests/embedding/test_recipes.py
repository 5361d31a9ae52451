"""The recipes of the README are run as they stand there; their maps are those of ONNX Runtime in Python."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from PIL import Image
from typer.testing import CliRunner

from onnxcam.bundled import bundled_explained_model, bundled_model, sample_images
from onnxcam.cli.app import app
from onnxcam.embedding.formats.web import RUNTIME
from tests.embedding.support.runtimes import (
    ROOT,
    needs_gcc,
    needs_package,
    run_node,
    run_program,
)

README = ROOT / "onnxcam" / "embedding" / "README.md"
IMAGE = next(path for path in sample_images() if "hourglass" in path.name)


def recipe(heading: str, language: str) -> str:
    """The code of a section in a language."""
    _, _, text = README.read_text(encoding="utf-8").partition(f"\n### {heading}\n")
    section = text.partition("\n### ")[0]
    (code,) = re.findall(rf"^```{language}\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    return str(code)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the bundled file and an image, as PNG and as bytes."""
    (tmp_path / "explained.onnx").write_bytes(bundled_explained_model().read_bytes())
    image = Image.open(IMAGE).convert("RGB")
    image.save(tmp_path / "photo.png")
    (tmp_path / "photo.rgb").write_bytes(image.tobytes())
    return tmp_path


@pytest.fixture
def expected(folder: Path) -> Any:
    """The map (H, W) of the class with the highest score."""
    session = ort.InferenceSession(folder / "explained.onnx", providers=["CPUExecutionProvider"])
    pixels = np.asarray(Image.open(IMAGE).convert("RGB"))[np.newaxis]
    return session.run(["saliency"], {"pixels": pixels, "target": np.array([-1])})[0][0]


def require_close(saliency: Any, expected: Any, tolerance: float = 1e-5) -> None:
    peak = float(np.abs(expected).max())
    assert peak > 0
    np.testing.assert_allclose(saliency, expected, rtol=0, atol=tolerance * peak)


def run_python(heading: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Run the Python of a section in the folder; what it defines."""
    monkeypatch.chdir(folder)
    names: dict[str, Any] = {}
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile(recipe(heading, "python"), heading, "exec"), names)
    assert printed.getvalue().startswith("5 (1, 112, 112)")  # hourglass
    return names


def test_recipe_for_python_returns_the_map(
    folder: Path, expected: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = run_python("ONNX Runtime in Python", folder, monkeypatch)
    require_close(names["saliency"][0], expected, 0)
    assert len(recipe("ONNX Runtime in Python", "python").splitlines()) <= 10


def test_recipe_for_openvino_returns_the_map(
    folder: Path, expected: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openvino", reason="OpenVINO is not installed")
    names = run_python("OpenVINO", folder, monkeypatch)
    require_close(names["saliency"][0], expected)


@needs_gcc
def test_recipe_for_c_returns_the_map(folder: Path, expected: Any) -> None:
    libraries = (Path(ort.__file__).parent / "capi").glob("libonnxruntime.so.1.*")
    if (library := next(libraries, None)) is None:
        pytest.skip("this package of ONNX Runtime has no shared library")
    (folder / "libonnxruntime.so.1").symlink_to(library)
    (folder / "explain.c").write_text(recipe("ONNX Runtime in C", "c"))
    build, run = recipe("ONNX Runtime in C", "sh").splitlines()
    run_program(["sh", "-c", f"{build} -Wall -Werror"], folder)
    run_program(["sh", "-c", run.replace("480 640", "112 112")], folder)
    saliency = np.fromfile(folder / "saliency.f32", np.float32)
    require_close(saliency.reshape(expected.shape), expected)


@needs_gcc
def test_program_in_c_says_what_is_wrong(folder: Path) -> None:
    libraries = (Path(ort.__file__).parent / "capi").glob("libonnxruntime.so.1.*")
    if (library := next(libraries, None)) is None:
        pytest.skip("this package of ONNX Runtime has no shared library")
    (folder / "libonnxruntime.so.1").symlink_to(library)
    (folder / "explain.c").write_text(recipe("ONNX Runtime in C", "c"))
    run_program(["sh", "-c", recipe("ONNX Runtime in C", "sh").splitlines()[0]], folder)
    with pytest.raises(AssertionError, match=r"missing\.onnx"):
        run_program(["./explain", "missing.onnx", "photo.rgb", 112, 112], folder)


@needs_package("onnxruntime-node")
def test_recipe_for_node_returns_the_map(folder: Path, expected: Any) -> None:
    result = run_node(folder, recipe("Node", "js"))
    assert result["shape"] == [1, *expected.shape]
    require_close(np.reshape(result["map"], expected.shape), expected)


DEPLOY = README.read_text(encoding="utf-8").partition("\n## Deploy\n")[2].partition("\n## ")[0]
COMMANDS = re.findall(r"^onnxcam (embed .*)$", DEPLOY, re.MULTILINE)


@pytest.mark.parametrize("command", COMMANDS)
def test_command_of_the_readme_is_accepted(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Up to the method, which would take longer."""
    (tmp_path / "model.onnx").write_bytes(bundled_model().read_bytes())
    dist = tmp_path / "node_modules" / "onnxruntime-web" / "dist"
    dist.mkdir(parents=True)
    for name in RUNTIME:
        (dist / name).write_text("")
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, [*shlex.split(command, comments=True), "-m", "grad-cam"])
    assert result.exit_code == 0, result.output


def test_commands_of_the_readme_are_those_that_it_explains() -> None:
    assert len(COMMANDS) >= 3
