"""What tests of deployment run besides Python, if this machine has it; `scripts/runtimes` installs it."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
MODULES = ROOT / ".runtimes" / "node_modules"
SCRIPTS = ROOT / "tests" / "embedding" / "runtimes"
NODE = shutil.which("node")
CHROMIUM = os.environ.get("CHROMIUM") or next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
LIMIT = 120  # seconds for one program

needs_node = pytest.mark.skipif(NODE is None, reason="Node is not installed")
needs_gcc = pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")


def needs_package(name: str) -> pytest.MarkDecorator:
    """Skips a test where an npm package is not installed."""
    return pytest.mark.skipif(
        NODE is None or not (MODULES / name).is_dir(),
        reason=f"the npm package {name} is not installed (scripts/runtimes)",
    )


def run_node(folder: Path, script: Path | str, *words: object) -> Any:
    """What a program for Node, or its text, prints as JSON. It is run in a folder that has the npm packages."""
    assert NODE is not None
    copy = folder / "program.mjs"
    copy.write_text(script if isinstance(script, str) else script.read_text())
    if MODULES.is_dir() and not (folder / "node_modules").exists():
        (folder / "node_modules").symlink_to(MODULES)
    return json.loads(run_program([NODE, copy, *words], folder))


def run_program(words: list[object], folder: Path, **environment: str) -> str:
    """The standard output of a program that succeeds."""
    result = subprocess.run(
        list(map(str, words)),
        capture_output=True,
        text=True,
        cwd=folder,
        check=False,
        timeout=LIMIT,
        env=os.environ | environment,
    )
    assert result.returncode == 0, f"{words[:3]}: {result.stdout[-2000:]}{result.stderr[-2000:]}"
    return result.stdout


@cache
def triton_config() -> Any:
    """The class `ModelConfig` of Triton's protocol buffers. Its package imports gRPC, so its file is loaded
    alone.
    """
    try:
        files = importlib.metadata.files("tritonclient") or []
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("tritonclient is not installed (scripts/runtimes)")
    path = next(file for file in files if file.parts[-2:] == ("grpc", "model_config_pb2.py"))
    spec = importlib.util.spec_from_file_location("model_config_pb2", str(path.locate()))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.ModelConfig
