"""Fixtures that the tests of commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from typer.testing import CliRunner

from onnxcam.cli.app import app
from tests.cli.support.tiny import write_image, write_model

Run: TypeAlias = Callable[..., Any]


@pytest.fixture
def run() -> Run:
    """Run a command line in this process: its exit code, stdout and stderr."""

    def invoke(*words: object) -> Any:
        return CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)

    return invoke


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model") / "tiny.onnx")


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return write_image(tmp_path / "cat.png")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"
