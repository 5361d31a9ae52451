"""What is on disk after an interrupted run, how `--skip-existing` treats it, and files of the user."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from itertools import product
from pathlib import Path

import pytest

import onnxcam
from onnxcam.errors import OutputError
from tests.cli.conftest import Run
from tests.cli.support.tiny import write_image
from tests.support.folders import contents
from tests.support.interrupt import interrupt_step

ROOT = Path(onnxcam.__file__).resolve().parents[1]
PLAIN = ("-m", "grad-cam", "--opacity", "0.2")


@pytest.fixture
def fresh(run: Run, model: Path, image: Path, tmp_path: Path) -> dict[str, bytes]:
    """What a run writes that is not disturbed."""
    assert run("explain", model, image, *PLAIN, "-o", tmp_path / "fresh").exit_code == 0
    return contents(tmp_path / "fresh")


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("cause", ["killed", "Ctrl-C"])
@pytest.mark.parametrize("older", [(), ("-m", "grad-cam", "--opacity", "0.9")])
def test_skip_existing_after_interrupt_equals_fresh_run(
    run: Run, model: Path, image: Path, out: Path, fresh: dict[str, bytes],
    cause: str, late: bool, older: tuple[str, ...],
) -> None:  # fmt: skip
    words = ("explain", model, image, *PLAIN, "-o", out, "--skip-existing", "-q")
    for stop in range(4, 18):  # the steps around the renames
        if older:
            assert run("explain", model, image, *older, "-o", out).exit_code == 0
        with interrupt_step(stop, cause, late=late), suppress(OutputError):
            run(*words)
        assert run(*words).exit_code == 0
        assert contents(out) == fresh, stop
        for path in out.iterdir():
            path.unlink()


@pytest.mark.parametrize(
    ("suffix", "damage"),
    [
        *product((".png", ".npz"), ("gone", "empty", "cut", "zeros")),
        *product((".json",), ("empty", "cut", "zeros")),  # without it the others are the user's
    ],
)
def test_damaged_results_are_recomputed(
    run: Run, model: Path, image: Path, out: Path, fresh: dict[str, bytes],
    suffix: str, damage: str,
) -> None:  # fmt: skip
    words = ("explain", model, image, *PLAIN, "-o", out, "--skip-existing")
    run(*words)
    path = out / f"cat.grad-cam{suffix}"
    content = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        half = content[: len(content) // 2]
        path.write_bytes({"empty": b"", "cut": half, "zeros": b"\0" * len(content)}[damage])
    assert "1 map written" in run(*words).stderr
    assert contents(out) == fresh
    assert "1 already existed" in run(*words).stderr


def test_results_of_another_version_are_recomputed(
    run: Run, model: Path, image: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("explain", model, image, *PLAIN, "-o", out, "--skip-existing")
    run(*words)
    monkeypatch.setattr("onnxcam.cli.batch_job.__version__", "0.2.0")
    assert "1 map written" in run(*words).stderr


@pytest.mark.parametrize("suffix", [".png", ".npz", ".json"])
@pytest.mark.parametrize("skip", [(), ("--skip-existing",)])
def test_user_file_is_preserved_without_force(
    run: Run, model: Path, tmp_path: Path, out: Path, suffix: str, skip: tuple[str, ...]
) -> None:
    for name in ("a.png", "b.png"):
        write_image(tmp_path / "in" / name)
    mine = out / f"a.grad-cam{suffix}"
    mine.parent.mkdir()
    mine.write_bytes(b"precious")
    words = ("explain", model, tmp_path / "in", "-m", "grad-cam", "-o", out, *skip)
    result = run(*words)
    assert result.exit_code == 1
    assert f"{mine}: already exists" in result.stderr
    assert "--force" in result.stderr
    assert mine.read_bytes() == b"precious"
    assert sorted(path.name for path in out.iterdir() if path != mine) == [
        f"b.grad-cam.{end}" for end in ("json", "npz", "png")
    ]
    assert run(*words, "--force").exit_code == 0
    assert len(contents(out)) == 6
    assert b"precious" not in contents(out).values()
    assert run(*words).exit_code == 0  # now they are results


def test_user_file_is_detected_before_the_run(
    run: Run, model: Path, image: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out.mkdir()
    (out / "cat.grad-cam.png").write_bytes(b"precious")
    monkeypatch.setattr("onnxcam.explain.explainer.Explainer.__call__", None)
    assert run("explain", model, image, "-m", "grad-cam", "-o", out).exit_code == 1


def test_save_refuses_before_writing(model: Path, image: Path, out: Path) -> None:
    explanation = onnxcam.Explainer(model, "grad-cam", device="cpu")([image, image])
    out.mkdir()
    (out / "b.grad-cam.npz").write_bytes(b"precious")
    with pytest.raises(OutputError, match=r"b.grad-cam.npz: already exists"):
        explanation.save(out, names=["a", "b"])
    assert len(list(out.iterdir())) == 1
    explanation.save(out, names=["a", "b"], overwrite=True)
    explanation.save(out, names=["a", "b"])
    assert len(list(out.iterdir())) == 6


@pytest.mark.skipif(os.name == "nt", reason="signals are POSIX's")
def test_ctrl_c_leaves_complete_results(run: Run, model: Path, tmp_path: Path, out: Path) -> None:
    for number in range(60):
        write_image(tmp_path / "in" / f"{number}.png", number)
    words = [
        "explain",
        model,
        tmp_path / "in",
        "-l",
        "relu1",
        "-n",
        "40",
        "--chunk",
        "2",
        "-o",
        out,
    ]
    line = [sys.executable, "-m", "onnxcam", *map(str, words), "--json"]
    process = subprocess.Popen(
        line, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "Traceback" not in said
    names = {path.name for path in out.iterdir()}
    stems = {name.rsplit(".", 1)[0] for name in names}
    assert 0 < len(stems) < 60
    assert names == {f"{stem}.{end}" for stem in stems for end in ("json", "npz", "png")}
    lines = run(*words, "--skip-existing", "--json").stdout.splitlines()
    assert sum(json.loads(line)["skipped"] for line in lines) == len(stems)
    run(*words[:-1], tmp_path / "fresh")
    assert contents(out) == contents(tmp_path / "fresh")
