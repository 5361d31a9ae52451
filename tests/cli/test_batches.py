"""Many images in one run of `onnxcam explain`: order, failures between them, and interrupts."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onnxcam.explain.explanation import Explanation
from tests.cli.conftest import Run
from tests.cli.support.tiny import write_image
from tests.support.limits import ROOT

COUNT = 40
GRAD_CAM = ("-m", "grad-cam", "-l", "relu1", "--preprocess", "imagenet")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    for number in range(COUNT):
        write_image(folder / f"{number:02}.png", number)
    return folder


def records(stdout: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stdout.splitlines()]


def test_lines_come_in_order_of_images_and_targets(
    run: Run, model: Path, folder: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even if the files of one image take longer than those of the next."""
    save = Explanation.save

    def slowly(explanation: Explanation, *words: Any, **options: Any) -> Any:
        time.sleep(0.02 * (explanation.images[0].name in ("03", "17")))
        return save(explanation, *words, **options)

    monkeypatch.setattr(Explanation, "save", slowly)
    targets = ("-t", "1", "-t", "top1")
    result = run("explain", model, folder, *GRAD_CAM, *targets, "-o", out, "--json")
    assert result.exit_code == 0, result.output
    lines = records(result.stdout)
    assert [Path(line["image"]).stem for line in lines] == [
        f"{number:02}" for number in range(COUNT) for _ in range(2)
    ]
    assert [line["index"] for line in lines[::2]] == [1] * COUNT
    assert len(list(out.iterdir())) == 3 * 2 * COUNT


def test_maps_of_a_run_equal_those_of_single_runs(
    run: Run, model: Path, folder: Path, out: Path
) -> None:
    words = (*GRAD_CAM, "-t", "1", "-t", "not 2")
    assert run("explain", model, folder, *words, "-o", out).exit_code == 0
    for name in ("00", "16", "39"):
        alone = out.with_name(f"alone-{name}")
        assert run("explain", model, folder / f"{name}.png", *words, "-o", alone).exit_code == 0
        for path in alone.glob("*.npz"):
            maps = [np.load(file)["map"] for file in (path, out / path.name)]
            np.testing.assert_allclose(maps[0], maps[1], rtol=1e-4, atol=1e-6 * maps[0].max())


def test_broken_images_fail_in_their_place(run: Run, model: Path, folder: Path, out: Path) -> None:
    broken = [folder / "05.png", folder / "20.png"]
    for path in broken:
        path.write_bytes(b"no image")
    result = run("explain", model, folder, *GRAD_CAM, "-t", "1", "-t", "2", "-o", out, "--json")
    assert result.exit_code == 1
    lines = records(result.stdout)
    assert [line["image"] for line in lines if line["error"]] == [*map(str, broken)]
    images = list(dict.fromkeys(line["image"] for line in lines))
    assert images == [str(folder / f"{number:02}.png") for number in range(COUNT)]
    assert len(list(out.iterdir())) == 3 * 2 * (COUNT - 2)


def test_skipped_and_new_images_alternate_in_order(
    run: Run, model: Path, folder: Path, out: Path
) -> None:
    words = ("explain", model, folder, *GRAD_CAM, "-o", out, "--skip-existing", "--json")
    assert run(*words).exit_code == 0
    for number in range(0, COUNT, 3):
        (out / f"{number:02}.grad-cam.png").unlink()
    result = run(*words)
    assert result.exit_code == 0, result.output
    assert [line["skipped"] for line in records(result.stdout)] == [
        number % 3 != 0 for number in range(COUNT)
    ]
    assert [Path(line["image"]).stem for line in records(result.stdout)] == [
        f"{number:02}" for number in range(COUNT)
    ]


def test_images_are_written_by_other_threads(
    run: Run, model: Path, folder: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writers = []
    save = Explanation.save

    def noted(explanation: Explanation, *words: Any, **options: Any) -> Any:
        writers.append(threading.current_thread())
        return save(explanation, *words, **options)

    monkeypatch.setattr(Explanation, "save", noted)
    assert run("explain", model, folder, *GRAD_CAM, "-o", out).exit_code == 0
    assert len(writers) == COUNT
    assert threading.current_thread() not in writers


@pytest.mark.skipif(os.name == "nt", reason="signals as POSIX has them")
def test_interrupted_run_reports_every_written_image(
    model: Path, folder: Path, out: Path, tmp_path: Path
) -> None:
    words = [sys.executable, "-m", "onnxcam", "explain", str(model), str(folder), *GRAD_CAM]
    command = [*words, "-o", str(out), "--json"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with (
        (tmp_path / "errors.txt").open("w+") as errors,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment
        ) as process,
    ):
        assert process.stdout is not None
        first = process.stdout.readline()
        process.send_signal(signal.SIGINT)
        # not `communicate`, which with two pipes loses the lines that `readline` has read ahead
        rest = process.stdout.read()
        code = process.wait(timeout=60)
        errors.seek(0)
        assert code in (0, 130, -signal.SIGINT), errors.read()
    reported = [record["manifest"] for record in records(first + rest)]
    written = sorted(map(str, out.glob("*.json")))
    assert len(list(out.iterdir())) == 3 * len(written)
    # the interrupt may come just before a line is printed
    assert {*reported} <= {*written}
    assert len(written) - len(reported) <= 1
