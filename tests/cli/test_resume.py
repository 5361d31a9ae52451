"""A run of many passes an image that is interrupted is continued by `--skip-existing`."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from onnxcam.explain.run import Runner
from onnxcam.methods import METHODS
from tests.cli.conftest import Run
from tests.cli.support.tiny import write_image
from tests.support.folders import contents

FEW = {
    "window": 0.4,
    "padding": 1,
    "samples": 20,
    "masks": 20,
}  # too many runs for images to run together
NAMES = [name for name, method in METHODS.items() if method.family == "perturbation"]
COUNT = 3


def words_of(method: str, model: Path, folder: Path) -> list[object]:
    settings = [f"{name}={n}" for name, n in FEW.items() if name in METHODS[method].settings]
    words = [word for setting in settings for word in ("--set", setting)]
    return ["explain", model, folder, "-m", method, "-t", "1", "--device", "cpu", *words]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(COUNT):
        write_image(tmp_path / "in" / f"{number}.png", number)
    return tmp_path / "in"


@pytest.mark.parametrize("method", NAMES)
def test_interrupted_run_is_continued(
    run: Run, model: Path, folder: Path, out: Path, tmp_path: Path, method: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """After an interrupt in the second image, the first is kept, and in the end all are those of one run."""
    words = words_of(method, model, folder)
    assert run(*words, "-o", tmp_path / "fresh").exit_code == 0
    sampled, calls = Runner.sampled, 0

    def interrupted(runner: Runner, *arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise KeyboardInterrupt
        return sampled(runner, *arguments)

    with monkeypatch.context() as patched, suppress(KeyboardInterrupt):
        patched.setattr(Runner, "sampled", interrupted)
        run(*words, "-o", out)
    assert len(list(out.glob("*.json"))) == 1
    result = run(*words, "-o", out, "--skip-existing", "--json")
    assert result.exit_code == 0, result.output
    skipped = [json.loads(line)["skipped"] for line in result.stdout.splitlines()]
    assert skipped == [True, False, False]
    assert contents(out) == contents(tmp_path / "fresh")


def test_notice_of_sampler_is_printed_once(run: Run, model: Path, folder: Path, out: Path) -> None:
    words = words_of("prediction-difference", model, folder)
    result = run(*words, "-o", out)
    assert (
        result.stderr.count("note: what hides a window is drawn from patches of the image itself")
        == 1
    )
    for manifest in out.glob("*.json"):
        assert "patches of the image itself" in " ".join(
            json.loads(manifest.read_text())["notices"]
        )
    assert "patches" not in run(*words, "-o", out, "--set", f"background={folder}").stderr


@pytest.mark.parametrize(
    ("method", "setting"), [("occlusion", "baseline"), ("prediction-difference", "background")]
)
def test_changed_file_of_a_setting_changes_results(
    run: Run, model: Path, image: Path, out: Path, tmp_path: Path, method: str, setting: str
) -> None:
    """`--skip-existing` computes them again; the name of the file is the same."""
    other = write_image(tmp_path / "other" / "other.png", 5)
    named = other if setting == "baseline" else other.parent
    words = (*words_of(method, model, image), "--set", f"{setting}={named}")
    words = (*words, "-o", out, "--skip-existing", "--json")

    def is_skipped() -> bool:
        result = run(*words)
        assert result.exit_code == 0, result.output
        return bool(json.loads(result.stdout)["skipped"])

    assert [is_skipped(), is_skipped()] == [False, True]
    write_image(other, 6)
    assert [is_skipped(), is_skipped()] == [False, True]
