"""`onnxcam concepts`: the files, the lines, and the exit codes."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from onnxcam.cli.progress import ProgressReporter
from tests.cli.conftest import Run
from tests.cli.support.tiny import write_image
from tests.concept_maps.test_surrogate import fit_lines


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(4):
        write_image(folder / f"{number}.png", seed=number)
    return folder


def test_concepts_are_written_and_listed(run: Run, model: Path, photos: Path, out: Path) -> None:
    result = run("concepts", model, photos, "-k", 2, "--best", 3, "-o", out)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert [line.split("  ")[0] for line in lines] == ["concept 1", "concept 2"]
    assert "2 concepts of 4 images at " in result.stderr
    assert "note: the model does not specify how images are prepared" in result.stderr
    assert sorted(path.name for path in out.iterdir()) == [
        "concepts.json",
        "concepts.npz",
        "concepts.png",
    ]
    with Image.open(out / "concepts.png") as sheet:
        assert sheet.width > 3 * 168


def test_contributions_of_images_are_written(
    run: Run, model: Path, photos: Path, image: Path, out: Path
) -> None:
    words = ("--contributions", image, "--contributions", photos / "0.png", "-t", 1)
    result = run("concepts", model, photos, "-k", 2, *words, "--json", "-q", "-o", out)
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    records = [json.loads(line) for line in result.stdout.splitlines()]
    assert [record.get("number") for record in records[:2]] == [1, 2]
    assert [record["image"] for record in records[2:]] == ["cat", "0"]
    for record in records[2:]:
        total = sum(row["value"] for row in record["contributions"])
        assert total == pytest.approx(record["score"], abs=1e-5)
        assert (out / f"{record['image']}.contributions.png").is_file()


def test_bad_image_is_listed_and_gives_exit_code_1(
    run: Run, model: Path, photos: Path, out: Path
) -> None:
    (photos / "bad.png").write_bytes(b"none")
    result = run("concepts", model, photos, "-k", 2, "-o", out)
    assert result.exit_code == 1
    assert "bad.png" in result.stderr
    assert (out / "concepts.png").is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("-k", 100), "error: 100 concepts: expected 1 to"),
        (("-l", "nowhere"), "nowhere"),
        (("-t", "unicorn", "--contributions", "photos/0.png"), "unicorn"),
        (("--contributions", "missing.png"), "missing.png"),
        (("-t", "unicorn", "--surrogate", "gam"), "unicorn"),
        (("-t", "top2", "--surrogate", "gam"), "one class for all images"),
        (("-t", "top2"), "the class score of a concept is of one class for all images"),
        (("-t", "unicorn"), "unicorn"),
        (("-t", "element:logits[1]"), "is of a class; name one"),
    ],
)
def test_wrong_setting_is_one_line(
    run: Run,
    model: Path,
    photos: Path,
    out: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[object, ...],
    message: str,
) -> None:
    monkeypatch.chdir(photos.parent)
    monkeypatch.setattr("onnxcam.concept_maps.surrogate.require_boosting", lambda: None)
    monkeypatch.setattr("onnxcam.concept_maps.surrogate.LEAST_IMAGES", 4)
    few = () if "-k" in words else ("-k", 2)
    result = run("concepts", model, photos, *few, *words, "-q", "-o", out)
    assert result.exit_code == 2
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not result.stdout
    assert not out.exists() or not [*out.iterdir()]


def test_files_of_others_are_kept(run: Run, model: Path, photos: Path, out: Path) -> None:
    out.mkdir()
    (out / "concepts.png").write_bytes(b"mine")
    result = run("concepts", model, photos, "-k", 2, "-o", out)
    assert result.exit_code == 2
    assert (out / "concepts.png").read_bytes() == b"mine"
    assert run("concepts", model, photos, "-k", 2, "-o", out, "--force").exit_code == 0


def test_surrogate_of_few_images_is_refused_before_the_work(
    run: Run, model: Path, photos: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("concepts", model, photos, "-k", 2, "-o", out, "--surrogate")
    result = run(*words, "tree")
    assert result.exit_code == 2
    assert "surrogate 'tree': expected gam" in result.stderr
    monkeypatch.setitem(sys.modules, "interpret.glassbox", None)
    result = run(*words, "gam")
    assert result.exit_code == 2
    assert "pip install 'onnxcam[gam]'" in result.stderr
    monkeypatch.setattr("onnxcam.concept_maps.surrogate.require_boosting", lambda: None)
    result = run(*words, "gam")
    assert result.exit_code == 2
    assert "needs 24 images or more" in result.stderr
    assert not out.exists()


def test_contributions_of_images_with_one_name_have_names_of_their_own(
    run: Run, model: Path, photos: Path, tmp_path: Path, out: Path
) -> None:
    (tmp_path / "other").mkdir()
    other = write_image(tmp_path / "other" / "0.png", seed=7)
    words = ("--contributions", photos / "0.png", "--contributions", other)
    assert run("concepts", model, photos, "-k", 2, *words, "-q", "-o", out).exit_code == 0
    charts = sorted(path.name for path in out.glob("*.contributions.png"))
    assert charts == ["other-0.png.contributions.png", "photos-0.png.contributions.png"]


@pytest.mark.parametrize("spec", ["1", "1-0", "not 1"])
def test_class_score_of_each_concept_for_target_is_written_and_listed(
    run: Run, model: Path, photos: Path, out: Path, spec: str
) -> None:
    result = run("concepts", model, photos, "-k", 2, "-t", spec, "-q", "--json", "-o", out)
    assert result.exit_code == 0, result.output
    records = [json.loads(line) for line in result.stdout.splitlines()]
    manifest = json.loads((out / "concepts.json").read_text())
    assert manifest["target"]["spec"] == spec
    with np.load(out / "concepts.npz") as arrays:
        scores = arrays["class_scores"]
    expected = {"1": scores[:, 1], "1-0": scores[:, 1] - scores[:, 0], "not 1": -scores[:, 1]}[spec]
    assert [record["score"] for record in records] == pytest.approx([*expected])
    assert [record["score"] for record in manifest["concepts"]] == pytest.approx([*expected])
    lines = run("concepts", model, photos, "-k", 2, "-t", spec, "-o", out).stdout.splitlines()
    assert f"{manifest['target']['name']} {expected[0]:+.2f}" in lines[0]


def test_target_is_drawn_for_each_concept(
    run: Run, model: Path, photos: Path, tmp_path: Path
) -> None:
    sheets = []
    for target in ("top1", "1"):
        out = tmp_path / target
        assert run("concepts", model, photos, "-k", 2, "-t", target, "-o", out).exit_code == 0
        with Image.open(out / "concepts.png") as sheet:
            sheets.append(np.asarray(sheet).tobytes())
    assert sheets[0] != sheets[1]


def test_charts_of_other_concepts_are_removed_and_those_of_the_same_stay(
    run: Run, model: Path, photos: Path, image: Path, out: Path
) -> None:
    words = ("concepts", model, photos, "-o", out, "-q")
    charts = {
        f"{name}.contributions{suffix}" for name in ("cat", "0") for suffix in (".png", ".json")
    }
    assert run(*words, "-k", 2, "--contributions", image).exit_code == 0
    assert run(*words, "-k", 2, "--contributions", photos / "0.png").exit_code == 0
    assert charts <= {path.name for path in out.iterdir()}
    (out / "0.contributions.png").write_bytes(b"mine")
    (out / "other.contributions.json").write_text("{}")
    assert run(*words, "-k", 3).exit_code == 0
    kept = {"0.contributions.png", "0.contributions.json", "other.contributions.json"}
    assert {path.name for path in out.glob("*.contributions.*")} == kept
    assert (out / "0.contributions.png").read_bytes() == b"mine"


def test_rank_that_contributions_explain_is_no_class_of_the_concepts(
    run: Run, model: Path, photos: Path, image: Path, out: Path
) -> None:
    words = ("concepts", model, photos, "-k", 2, "-t", "top2", "-q", "-o", out)
    assert run(*words, "--contributions", image).exit_code == 0
    assert "target" not in json.loads((out / "concepts.json").read_text())
    explained = json.loads((out / "cat.contributions.json").read_text())
    assert explained["target"]["spec"] != "top1"


@pytest.fixture
def lines_for_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Additive models of lines, which need no package."""
    for name, stand_in in (("require_boosting", lambda: None), ("fit_additive_model", fit_lines)):
        monkeypatch.setattr(f"onnxcam.concept_maps.superpixels.{name}", stand_in)
    monkeypatch.setattr("onnxcam.cli.concept_charts.require_boosting", lambda: None)


@pytest.mark.usefixtures("lines_for_curves")
def test_superpixels_of_images_are_written(
    run: Run, model: Path, photos: Path, image: Path, out: Path
) -> None:
    words = ("concepts", model, photos, "-k", 2, "--superpixels", image, "-t", "top2", "-o", out)
    result = run(*words, "--json")
    assert result.exit_code == 0, result.output
    record = json.loads(result.stdout.splitlines()[-1])
    assert record["image"] == "cat"
    assert record["samples"] == 800
    manifest = json.loads((out / "cat.superpixels.json").read_text())
    assert manifest["superpixels"]["effects"] == record["effects"]
    assert manifest["target"]["name"] == record["target"]
    assert run("concepts", model, photos, "-k", 1, "-o", out).exit_code == 0
    assert (out / "cat.superpixels.png").exists()  # it is not of certain concepts


@pytest.mark.usefixtures("lines_for_curves")
def test_superpixels_without_scikit_image_are_cells_with_a_notice_that_the_command_can_follow(
    run: Run,
    model: Path,
    photos: Path,
    image: Path,
    out: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "skimage.segmentation", None)
    result = run("concepts", model, photos, "-k", 2, "--superpixels", image, "-o", out)
    assert result.exit_code == 0, result.output
    (notice,) = [line for line in result.stderr.splitlines() if "scikit-image" in line]
    assert "the segments are the cells of a grid" in notice
    assert "pip install 'onnxcam[superpixels]'" in notice
    assert "segments=" not in notice  # which the command does not take


def test_progress_bar_says_that_concepts_are_looked_for(
    run: Run, model: Path, photos: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    actions: list[str] = []

    def record(reporter: ProgressReporter) -> ProgressReporter:
        actions.append(reporter.action)
        return reporter

    monkeypatch.setattr(ProgressReporter, "__enter__", record)
    assert run("concepts", model, photos, "-k", 2, "-o", out).exit_code == 0
    assert actions == ["finding concepts"]


def test_superpixels_without_the_package_fail_before_the_work(
    run: Run,
    model: Path,
    photos: Path,
    image: Path,
    out: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "interpret.glassbox", None)
    result = run("concepts", model, photos, "-k", 2, "--superpixels", image, "-q", "-o", out)
    assert result.exit_code == 2
    assert (
        "--superpixels need the package interpret-core: pip install 'onnxcam[gam]'" in result.stderr
    )
    assert not out.exists()
