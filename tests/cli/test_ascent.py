"""`onnxcam visualize` and `onnxcam invert`, as a user types them."""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from onnxcam.ascent.recipes import maximization, reconstruction
from onnxcam.bundled import bundled_model, sample_images
from onnxcam.cli.app import app
from onnxcam.cli.progress import ProgressReporter

MODEL = str(bundled_model())


def run(*arguments: str | Path) -> Any:
    return CliRunner().invoke(app, [*map(str, arguments), "--device", "cpu"])


@pytest.mark.parametrize(
    ("command", "recipe"), [("visualize", maximization), ("invert", reconstruction)]
)
def test_options_tell_the_defaults_of_the_recipe(command: str, recipe: Any) -> None:
    group: Any = typer.main.get_command(app)
    options = {option.name: option for option in group.commands[command].params}
    for name, parameter in inspect.signature(recipe).parameters.items():
        if parameter.kind is parameter.KEYWORD_ONLY:
            (default,) = re.findall(r"\[default: (.*)\]", options[name].help)
            expected = parameter.default
            assert default == expected if isinstance(expected, str) else float(default) == expected


def test_visualize_writes_files_and_prints_scores(tmp_path: Path) -> None:
    result = run(
        *("visualize", MODEL, "-t", "star", "-t", "ring", "--count", "2", "--steps", "2"),
        *("-o", tmp_path, "--json"),
    )
    assert result.exit_code == 0, result.output
    records = [json.loads(line) for line in result.stdout.splitlines()]
    assert [(record["name"], record["seed"]) for record in records] == [
        *(("star", 0), ("star", 1), ("ring", 0), ("ring", 1))
    ]
    for record in records:
        assert all(Path(record[name]).exists() for name in ("image", "sheet", "tensor", "manifest"))
    with np.load(records[0]["tensor"]) as stored:
        assert stored["tensor"].shape == (4, 3, 112, 112)
    assert len([*tmp_path.glob("*.checkpoint.npz")]) == 1
    assert "4 images written to" in result.stderr


def test_visualize_of_channels_prints_lines(tmp_path: Path) -> None:
    result = run(
        *("visualize", MODEL, "-l", "relu_4", "--channels", "3,7", "--region", "5:6,5:6"),
        *("--count", "1", "--steps", "1", "-o", tmp_path),
    )
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert [line.rsplit(":", 1)[0] for line in lines] == [
        "relu_4, feature map 3, cells 5:6,5:6 (seed 0)",
        "relu_4, feature map 7, cells 5:6,5:6 (seed 0)",
    ]


def test_invert_writes_files_and_prints_errors(tmp_path: Path) -> None:
    image = sample_images()[0]
    result = run(
        *("invert", MODEL, image, "-l", "relu", "-l", "relu_4", "--steps", "2"),
        *("-o", tmp_path, "--json"),
    )
    assert result.exit_code == 0, result.output
    records = [json.loads(line) for line in result.stdout.splitlines()]
    assert [record["layer"] for record in records] == ["relu", "relu_4"]
    assert all(0 < record["relative_error"] < 2 for record in records)
    with np.load(records[0]["tensor"]) as stored:
        assert stored["tensor"].shape == (2, 3, 112, 112)
        assert stored["history"].shape == (2, 2)


def test_progress_of_invert_counts_the_steps_of_all_layers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[tuple[int, int | None]] = []

    def record(_: ProgressReporter, name: str, passes: int, total: int | None = None) -> None:
        shown.append((passes, total))

    monkeypatch.setattr(ProgressReporter, "start_image", record)
    words = ("-l", "relu", "-l", "relu_4", "--steps", "3")
    assert run("invert", MODEL, sample_images()[0], *words, "-o", tmp_path).exit_code == 0
    assert shown == [(number, 6) for number in range(1, 7)]


def test_quiet_prints_nothing(tmp_path: Path) -> None:
    result = run(
        "visualize", MODEL, "-t", "0", "--count", "1", "--steps", "1", "-q", "-o", tmp_path
    )
    assert (result.exit_code, result.output) == (0, "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name either a target (--target) or a layer (--layer)"),
        (["-t", "top1"], "no image yet"),
        (["-t", "blob"], "no label 'blob'; use an index, or pass labels with --labels FILE"),
        (["-t", "0", "--steps", "0"], "steps=0"),
        (["-l", "relu"], "--channels"),
        (["-l", "relu", "--channels", "1", "--labels", "a,b"], "labels name targets"),
        (["-t", "0", "--channels", "1"], "channels and region belong to a layer"),
        (["-t", "0", "--region", "0:1,0:1"], "channels and region belong to a layer"),
        (["-t", "0", "-l", "relu"], "either a target"),
    ],
)
def test_wrong_request_is_an_error_of_one_line(
    tmp_path: Path, arguments: list[str], message: str
) -> None:
    result = run("visualize", MODEL, *arguments, "-o", tmp_path)
    assert result.exit_code == 2
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not [*tmp_path.iterdir()]
