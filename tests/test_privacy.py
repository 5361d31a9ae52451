"""Nothing is written into the home folder but onnxcam's own cache."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import onnxcam
from tests.cli.support.tiny import write_image, write_model

ROOT = Path(onnxcam.__file__).resolve().parents[1]
VARIABLE = "ORT_DISABLE_TELEMETRY"
ELSEWHERE = ("XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME", VARIABLE)
LIBRARY = """
import sys
from onnxcam import Explainer
Explainer(sys.argv[1], device="cpu")(sys.argv[2])
"""
VALUE = f"import os, onnxcam.runtime.session; print(repr(os.environ[{VARIABLE!r}]))"


def run_at_home(home: Path, *words: object, **variables: str) -> str:
    """Run Python with a home folder of its own; its standard output."""
    own = {name: value for name, value in os.environ.items() if name not in ELSEWHERE}
    del own["ONNXCAM_CACHE"]
    places = {"HOME": str(home), "USERPROFILE": str(home), "LOCALAPPDATA": str(home / "local")}
    done = subprocess.run(
        [sys.executable, *map(str, words)],
        capture_output=True, text=True, check=True, timeout=60, cwd=ROOT,
        env=own | places | variables,
    )  # fmt: skip
    return done.stdout


def files_of(home: Path) -> list[Path]:
    return [path.relative_to(home) for path in home.rglob("*") if not path.is_dir()]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


@pytest.mark.parametrize("use", ["command line", "library"])
def test_fresh_home_holds_only_the_cache(home: Path, tmp_path: Path, use: str) -> None:
    model = write_model(tmp_path / "net.onnx")
    image = write_image(tmp_path / "cat.png")
    if use == "library":
        run_at_home(home, "-c", LIBRARY, model, image)
    else:
        run_at_home(home, "-m", "onnxcam", "explain", model, image, "-o", tmp_path / "out")
    written = files_of(home)
    assert written
    assert {path.parts[:2] for path in written} <= {(".cache", "onnxcam"), ("local", "onnxcam")}


def test_doctor_writes_nothing_and_reports_telemetry_off(home: Path) -> None:
    report = json.loads(run_at_home(home, "-m", "onnxcam", "doctor", "--json"))
    assert report["telemetry"] == {"disabled": True, "setting": f"{VARIABLE}=1"}
    assert files_of(home) == []


@pytest.mark.parametrize("value", ["0", "1", "true", ""])
def test_variable_of_user_is_kept(home: Path, value: str) -> None:
    assert run_at_home(home, "-c", VALUE, **{VARIABLE: value}).strip() == repr(value)


@pytest.mark.parametrize(
    ("value", "said"), [("0", "ON"), ("", "ON"), ("off", "ON"), ("Yes", "off"), ("1", "off")]
)
def test_doctor_reports_meaning_of_variable(
    value: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As ONNX Runtime 1.31.1 reads it: with the values said to be ON it wrote a device id."""
    from onnxcam.cli.doctor import _format_telemetry
    from onnxcam.runtime import telemetry

    monkeypatch.setenv(VARIABLE, value)
    assert _format_telemetry(telemetry()) == f"{said} ({VARIABLE}={value})"
