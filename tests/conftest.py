"""The tests see each other's files as `tests.…`; what the operator cases covered is told at the end."""

import importlib.util
import os
from collections import Counter
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

import onnxcam.runtime  # noqa: F401  before any test imports ONNX Runtime: its telemetry is off

CONFORMANCE = "test_conformance.py"


@pytest.fixture(scope="session")
def caches(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("caches")


@pytest.fixture(autouse=True)
def cache_folder(caches: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own: nobody's real one is touched, and no test sees another's entries."""
    folder = caches / uuid4().hex[:12]
    monkeypatch.setenv("ONNXCAM_CACHE", str(folder))
    monkeypatch.delenv("ONNXCAM_CACHE_SIZE", raising=False)
    return folder


def pytest_sessionstart() -> None:
    """Where the oracle is required, its absence is a failure, not a reason to skip."""
    missing = [each for each in ("torch", "onnx_ad") if importlib.util.find_spec(each) is None]
    if os.environ.get("ONNXCAM_ORACLE") == "required" and missing:
        pytest.exit(f"ONNXCAM_ORACLE=required, but {missing[0]} is not installed", returncode=3)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """One line for the operator cases of the onnx wheel, one for each reason that some were left out."""
    told: list[dict[str, Any]] = [
        dict(each.user_properties) for each in _of(terminalreporter, "passed")
    ]
    passed = [each for each in told if "operators" in each]
    if not passed:
        return
    operators = {name for each in passed for name in each["operators"].split()}
    moved = sum("moved" in each for each in passed)
    terminalreporter.write_sep("-", "operator cases of the onnx wheel")
    terminalreporter.write_line(
        f"{len(operators)} operators, {len(passed)} checks passed, {moved} of them moved off a kink"
    )
    skipped: list[Any] = [each.longrepr for each in _of(terminalreporter, "skipped")]
    reasons = Counter(each[2].removeprefix("Skipped: ") for each in skipped)
    for reason, count in reasons.most_common():
        terminalreporter.write_line(f"{count} left out: {reason}")


def _of(terminalreporter: Any, outcome: str) -> list[pytest.TestReport]:
    return [
        each
        for each in terminalreporter.getreports(outcome)
        if CONFORMANCE in each.nodeid and (each.when == "call" or outcome == "skipped")
    ]
