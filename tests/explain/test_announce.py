"""Notices are warnings, once per explainer, at the user's line; the command line prints them itself."""

import pickle
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

import onnxcam
from onnxcam.errors import OnnxcamNotice
from tests.cli.support.tiny import write_image, write_model
from tests.explain.support.explained import X, make_explainer
from tests.support.nets import POOLED

ROOT = Path(onnxcam.__file__).resolve().parents[1]
SCRIPT = """
import sys, onnxcam
explainer = onnxcam.Explainer(sys.argv[1], device="cpu")
for _ in range(3):
    explainer(sys.argv[2])  # the line
"""


def notices_of(explainer: onnxcam.Explainer, calls: int = 1) -> list[warnings.WarningMessage]:
    """The notices that are warned about in a number of calls."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(calls):
            explainer(X)
    return [warning for warning in caught if warning.category is OnnxcamNotice]


def test_notice_of_explanation_is_a_warning() -> None:
    explainer = make_explainer(POOLED, samples=2)
    (notice,) = explainer(X).notices
    fresh = make_explainer(POOLED, samples=2)
    with pytest.warns(onnxcam.OnnxcamNotice, match="does not depend on the image") as caught:
        fresh(X)
    assert [str(warning.message) for warning in caught] == [notice]
    assert caught[0].filename == __file__


def test_notice_is_given_once_per_explainer() -> None:
    explainer = make_explainer(POOLED, samples=2)
    assert len(notices_of(explainer, calls=3)) == 1
    assert notices_of(explainer) == []
    assert len(notices_of(pickle.loads(pickle.dumps(explainer)))) == 1


def test_explanation_without_notices_warns_of_nothing() -> None:
    assert notices_of(make_explainer(POOLED, "grad-cam")) == []


def test_notices_can_be_ignored_by_category() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", category=onnxcam.OnnxcamNotice)
        assert make_explainer(POOLED, samples=2)(X).notices


def run(*words: object) -> str:
    """Run Python in a process of its own; its standard error."""
    done = subprocess.run(
        [sys.executable, *map(str, words)],
        capture_output=True, text=True, check=True, timeout=60, cwd=ROOT,
    )  # fmt: skip
    return done.stderr


def test_script_gets_warning_at_its_line(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    model, image = write_model(tmp_path / "net.onnx"), write_image(tmp_path / "cat.png")
    text = run(script, model, image)
    warned = [line for line in text.splitlines() if "OnnxcamNotice" in line]
    assert warned
    assert all(line.startswith(f"{script}:5: OnnxcamNotice: ") for line in warned)
    assert len(warned) == len({*warned})


def test_command_line_prints_notice_once_and_not_as_warning(tmp_path: Path) -> None:
    model, image = write_model(tmp_path / "net.onnx"), write_image(tmp_path / "cat.png")
    text = run("-m", "onnxcam", "explain", model, image, "-o", tmp_path / "out")
    notes = [line for line in text.splitlines() if line.startswith("note: ")]
    assert notes
    assert len(notes) == len({*notes})
    assert "OnnxcamNotice" not in text
    assert "warning" not in text


def test_stream_warns_at_the_line_of_its_loop() -> None:
    explainer = make_explainer(POOLED, samples=2)
    with pytest.warns(onnxcam.OnnxcamNotice) as caught:
        for _ in explainer.stream(X):
            pass
    assert [warning.filename for warning in caught] == [__file__]
