"""A cache for each test, the extras of the oracle, and the operators whose gradients were checked."""

import importlib.util
import os
from collections.abc import Generator
from pathlib import Path
from uuid import uuid4

import hypothesis
import pytest

import onnxcam.runtime  # noqa: F401  before any test imports ONNX Runtime: its telemetry is off
from tests.autodiff.support.checked_operators import PROPERTY, RECORDED, CheckedOperators

TIERS = ("", "not slow")  # expressions of -m that select all tests of a tier
SELECTIONS = ("keyword", "deselect", "ignore", "ignore_glob", "lf")  # options that leave tests out

hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None, database=None)
hypothesis.settings.load_profile("repeatable")


@pytest.fixture(scope="session")
def caches(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("caches")


@pytest.fixture(autouse=True)
def cache_folder(caches: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of the test: nobody's real one is touched, and no test sees the entries of others."""
    folder = caches / uuid4().hex[:12]
    monkeypatch.setenv("ONNXCAM_CACHE", str(folder))
    monkeypatch.delenv("ONNXCAM_CACHE_SIZE", raising=False)
    return folder


def pytest_configure(config: pytest.Config) -> None:
    # a worker of pytest-xdist: the main process gets its reports
    if hasattr(config, "workerinput"):
        return
    is_complete = (
        config.args_source is pytest.Config.ArgsSource.TESTPATHS
        and config.getoption("markexpr") in TIERS
        and not any(config.getoption(option, None) for option in SELECTIONS)
    )
    config.pluginmanager.register(CheckedOperators(is_complete=is_complete))


def pytest_sessionstart() -> None:
    """Where the oracle is required, its absence is a failure, not a reason to skip."""
    missing = [
        name for name in ("torch", "onnx_ad", "captum") if importlib.util.find_spec(name) is None
    ]
    if os.environ.get("ONNXCAM_ORACLE") == "required" and missing:
        pytest.exit(f"ONNXCAM_ORACLE=required, but {missing[0]} is not installed", returncode=3)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    call: pytest.CallInfo[None],
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if call.when == "call" and report.passed and RECORDED:
        report.user_properties.append((PROPERTY, " ".join(sorted(RECORDED))))
    RECORDED.clear()
    return report
