"""`onnxcam compare`: the sheet, its manifest, the lines, and the exit codes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import onnxcam
from onnxcam.cli.progress import ProgressReporter
from tests.cli.conftest import Run
from tests.cli.support.tiny import write_model

FEW = ("-n", "2", "--set", "steps=2", "--set", "masks=4")


@pytest.fixture
def sheet(tmp_path: Path) -> Path:
    return tmp_path / "grid.png"


def test_default_methods_are_drawn(run: Run, model: Path, image: Path, sheet: Path) -> None:
    result = run("compare", model, image, "-o", sheet, "-n", 2)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert any(line.startswith("grad-cam ") and "1 run · " in line for line in lines)
    assert any(line.startswith("smooth-grad-cam++ ") and "2 runs · " in line for line in lines)
    assert " maps in " in result.stderr
    assert "note: the model does not specify how images are prepared" in result.stderr
    with Image.open(sheet) as drawn:
        assert drawn.width > 500
    manifest = json.loads(sheet.with_suffix(".json").read_text())
    assert len(manifest["comparison"]) == len(lines)


def test_all_methods_that_apply_are_drawn_and_others_say_why(
    run: Run, model: Path, image: Path, sheet: Path
) -> None:
    result = run("compare", model, image, "-m", "all", *FEW, "-o", sheet)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert {line.split()[0] for line in lines} == {*onnxcam.METHODS}
    assert any(line.startswith("attention-rollout ") and line.endswith("no map") for line in lines)
    assert re.search(r"^no map: .*attention-rollout.*: no attention", result.stderr, re.MULTILINE)


def test_json_has_a_line_per_map(run: Run, model: Path, image: Path, sheet: Path) -> None:
    words = ("-m", "grad-cam,attention-rollout", "-m", "saliency", "-t", "top1", "-t", "hen")
    labels = sheet.with_name("labels.txt")
    labels.write_text("cat\nhen\nbus\ncup\noak\n")
    result = run("compare", model, image, *words, "--labels", labels, "--json", "-q", "-o", sheet)
    records = [json.loads(line) for line in result.stdout.splitlines()]
    assert result.exit_code == 1
    assert result.stderr == ""
    assert len(records) == 6
    by_key = {(record["method"], record["target"]): record for record in records}
    hen = by_key["grad-cam", "hen"]
    assert (hen["name"], hen["index"], hen["family"], hen["passes"]) == ("hen", 1, "cam", 1)
    assert hen["seconds"] >= hen["shared_seconds"] >= 0
    assert hen["error"] is None
    refused = by_key["attention-rollout", "hen"]
    assert refused.keys() == {"method", "family", "layer", "target", "error"}


def test_named_method_that_fails_gives_exit_code_1(
    run: Run, model: Path, image: Path, sheet: Path
) -> None:
    result = run("compare", model, image, "-m", "attention-rollout,grad-cam", "-o", sheet)
    assert result.exit_code == 1
    assert "1 map in" in result.stderr
    assert "1 method without a map" in result.stderr
    assert sheet.is_file()


def test_methods_without_gradient_are_drawn_where_a_rule_is_missing(
    run: Run, tmp_path: Path, image: Path, sheet: Path
) -> None:
    stochastic = write_model(tmp_path / "stochastic.onnx", stochastic=["late"])
    result = run("compare", stochastic, image, "-m", "grad-cam,activation-map", "-o", sheet)
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert any(line.startswith("grad-cam  ") and line.endswith("no map") for line in lines)
    assert re.search("^no map: grad-cam: .*Bernoulli", result.stderr, re.MULTILINE)
    assert [line for line in lines if line.startswith("activation-map  1 run")]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("-m", "grad-kam"), "did you mean"),
        (("-m", "grad-cam", "--set", "masks=3"), "none of the methods has the setting 'masks'"),
        (("-m", "smooth-grad", "--set", "samples=0"), "samples='0': expected 1 to 1000000"),
        (("-m", "grad-cam,layer-cam", "-t", "dog"), "dog"),
        (("-m", "grad-cam,layer-cam", "-l", "conv99"), "conv99"),
        (("-m", "attention-rollout"), "no attention"),
        (("-o", "grid.jpg"), "expected the name of a .png file"),
    ],
)
def test_unusable_request_fails_in_one_line(
    run: Run, model: Path, image: Path, sheet: Path, words: tuple[str, ...], message: str
) -> None:
    out = () if "-o" in words else ("-o", sheet)
    result = run("compare", model, image, *words, *out)
    assert result.exit_code == 2, result.output
    assert message in result.stderr.splitlines()[-1]
    assert not sheet.exists()


def test_interrupt_keeps_the_maps_that_are_done(
    run: Run, model: Path, image: Path, sheet: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = ProgressReporter.report

    def report_and_interrupt(self: ProgressReporter, record: Any, line: str) -> None:
        report(self, record, line)
        if record["method"] == "layer-cam":
            raise KeyboardInterrupt

    monkeypatch.setattr(ProgressReporter, "report", report_and_interrupt)
    result = run("compare", model, image, "-m", "grad-cam,layer-cam,rise", "-o", sheet)
    assert result.exit_code != 0
    assert "2 of 3 maps on" in result.stderr
    manifest = json.loads(sheet.with_suffix(".json").read_text())
    assert [row["method"] for row in manifest["comparison"]] == ["grad-cam", "layer-cam"]


def test_missing_image_fails_and_writes_nothing(run: Run, model: Path, sheet: Path) -> None:
    result = run("compare", model, "missing.png", "-m", "grad-cam,layer-cam", "-o", sheet)
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1].startswith("error: missing.png: ")
    assert not sheet.exists()


def test_file_of_others_is_kept_unless_forced(
    run: Run, model: Path, image: Path, sheet: Path
) -> None:
    sheet.write_text("mine")
    words = ("compare", model, image, "-m", "grad-cam", "-o", sheet)
    result = run(*words)
    assert result.exit_code == 2
    assert "--force" in result.stderr
    assert sheet.read_text() == "mine"
    assert run(*words, "--force").exit_code == 0
    assert run(*words).exit_code == 0  # its own result is replaced


def test_sheet_is_no_image_of_its_folder(run: Run, model: Path, image: Path, sheet: Path) -> None:
    run("compare", model, image, "-m", "grad-cam", "-o", sheet)
    result = run("explain", model, sheet.parent, "-m", "grad-cam", "-o", sheet.parent / "out")
    assert [line.split()[0] for line in result.stdout.splitlines()] == [str(image)]


def test_manifest_of_comparison_cannot_be_repeated(
    run: Run, model: Path, image: Path, sheet: Path
) -> None:
    run("compare", model, image, "-m", "grad-cam", "-o", sheet)
    result = run("explain", "--from", sheet.with_suffix(".json"))
    assert result.exit_code == 2
    assert "is of a comparison of methods" in result.stderr
