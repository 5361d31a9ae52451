"""`onnxcam scan`: its lines, files and exit codes, and `explain` with the feature maps of a scan."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from onnxcam.methods.subset import select_channels
from tests.cli.conftest import Run
from tests.cli.support.tiny import write_image
from tests.support.nets import DEEP

COUNT = 12


@pytest.fixture
def usual(tmp_path: Path) -> Path:
    """A folder of random images of few colors."""
    folder = tmp_path / "usual"
    folder.mkdir()
    for number in range(COUNT):
        colors = np.random.default_rng(number).integers(0, 256, (4, 4, 3), dtype=np.uint8)
        Image.fromarray(colors).resize((16, 16)).save(folder / f"{number:02}.png")
    return folder


def test_scan_writes_files_and_says_what_is_unusual(
    run: Run, model: Path, image: Path, usual: Path, out: Path
) -> None:
    result = run("scan", model, image, "--background", usual, "-o", out, "-l", "relu1")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith(f"{image}  p = ")
    assert "1 image compared with 12 at relu1" in result.stderr
    names = {path.name for path in out.iterdir()}
    assert names == {f"cat.scan{suffix}" for suffix in (".png", ".npz", ".json")}


def test_lines_of_json_hold_what_the_manifest_says(
    run: Run, model: Path, image: Path, usual: Path, out: Path
) -> None:
    words = ("--json", "--together", "--seed", "3", "--tail", "both", "--alpha-max", "0.25")
    result = run("scan", model, image, usual, "--background", usual, "-o", out, *words)
    assert result.exit_code == 0, result.stderr
    *records, group = map(json.loads, result.stdout.splitlines())
    assert len(records) == COUNT + 1
    for record in records:
        facts = json.loads(Path(record["manifest"]).read_text())["scan"]
        assert {name: record[name] for name in facts if name in record} == {
            name: facts[name] for name in facts if name in record
        }
        assert record["error"] is None
        assert facts["leaves_itself_out"] == (record["image"] != str(image))
    assert group["images_scanned"] == COUNT + 1
    assert result.stderr.count("is one of the background") == 1


def test_broken_images_are_listed_and_the_others_are_scanned(
    run: Run, model: Path, image: Path, usual: Path, out: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.png"
    broken.write_text("none")
    (usual / "broken too.png").write_text("none")
    result = run("scan", model, broken, image, "--background", usual, "-o", out)
    assert result.exit_code == 1
    assert f"{broken}  FAILED" in result.stdout
    assert f"{image}  p = " in result.stdout
    assert f"{usual / 'broken too.png'}: is not an image" in result.stderr
    assert "2 images failed:" in result.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--alpha-max", "0.01"), "pass at least 100"),
        (("--alpha-max", "2"), "between 0 and 1"),
        (("--tail", "up"), "expected right, left, both"),
        (("--statistic", "t-test"), "known: berk-jones"),
        (("-l", "relu1,relu2"), "name one of them"),
        (("--colormap", "polar"), "polar"),
        (("--labels", "a,b"), "labels: name the classes of --same-class"),
    ],
)
def test_wrong_option_is_one_line(
    run: Run,
    model: Path,
    image: Path,
    usual: Path,
    out: Path,
    words: tuple[str, str],
    message: str,
) -> None:
    result = run("scan", model, image, "--background", usual, "-o", out, *words)
    assert result.exit_code == 2
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_missing_background_is_named(run: Run, model: Path, image: Path, out: Path) -> None:
    result = run("scan", model, image, "--background", "nowhere", "-o", out)
    assert result.exit_code == 2
    assert "nowhere: no such file or folder" in result.stderr


def test_broken_background_is_listed_if_too_few_images_are_left(
    run: Run, model: Path, image: Path, usual: Path, out: Path
) -> None:
    names = sorted(usual.iterdir())[:10]
    for path in names[:3]:
        path.write_text("none")
    words = [word for path in names for word in ("--background", path)]
    result = run("scan", model, image, *words, "-o", out)
    assert result.exit_code == 2
    assert all(f"{path}: is not an image" in result.stderr for path in names[:3])
    assert "7 background images are too few" in result.stderr


def test_visualize_takes_feature_maps_cells_and_layer_of_a_scan(
    run: Run, model: Path, scanned: Path, out: Path
) -> None:
    subset = (f"--channels=@{scanned}", f"--region=@{scanned}")
    words = ("visualize", model, "--count", "1", "-n", "1", "-o", out, *subset)
    result = run(*words)
    assert result.exit_code == 0, result.stderr
    facts = json.loads(scanned.read_text())["scan"]
    (manifest,) = (json.loads(path.read_text()) for path in out.glob("*.visualize.json"))
    assert manifest["targets"]["channels"] == facts["channels"]
    assert len(manifest["visualize"]) == len(select_channels(facts["channels"], 999) or [])
    assert "but relu2 was chosen" in run(*words, "-l", "relu2").stderr
    assert "(--target) or a layer" in run(*words, "-t", "0").stderr


def test_file_of_somebody_else_is_kept(
    run: Run, model: Path, image: Path, usual: Path, out: Path
) -> None:
    out.mkdir()
    (out / "together.scan.png").write_text("mine")
    words = ("scan", model, image, "--background", usual, "-o", out)
    result = run(*words, "--together")
    assert result.exit_code == 2
    assert "already exists" in result.stderr
    assert len([*out.iterdir()]) == 1
    assert run(*words, "--together", "--force").exit_code == 0


def test_sheet_of_a_group_has_the_colors_that_were_chosen(
    run: Run, model: Path, usual: Path, tmp_path: Path
) -> None:
    sheets: set[bytes] = set()
    for colors in ((), ("--opacity", "0.1"), ("--colormap", "gray")):
        out = tmp_path / f"out {len(sheets)}"
        words = ("scan", model, usual, "--background", usual, "-o", out, "--together")
        assert run(*words, *colors).exit_code == 0
        with Image.open(out / "together.scan.png") as sheet:
            sheets.add(np.asarray(sheet).tobytes())
    assert len(sheets) == 3


def test_group_of_an_earlier_run_is_removed_unless_it_was_changed(
    run: Run, model: Path, usual: Path, out: Path
) -> None:
    words = ("scan", model, usual / "00.png", usual / "01.png", "--background", usual, "-o", out)
    for content in (None, "mine"):
        assert run(*words, "--together").exit_code == 0
        if content:
            (out / "together.scan.png").write_text(content)
        assert run(*words).exit_code == 0
        assert len([*out.glob("together.scan.*")]) == (3 if content else 0)
    assert len([*out.glob("0?.scan.*")]) == 6


def test_results_of_a_scan_are_no_images(run: Run, model: Path, usual: Path) -> None:
    words = ("scan", model, usual, "--background", usual, "-o", usual, "--json")
    counts = [len(run(*words).stdout.splitlines()) for _ in range(2)]
    assert counts == [COUNT, COUNT]


@pytest.fixture
def scanned(run: Run, model: Path, image: Path, usual: Path, out: Path) -> Path:
    """The manifest of a scan at relu1."""
    run("scan", model, image, "--background", usual, "-o", out, "-l", "relu1", "--alpha-max", "0.5")
    return out / "cat.scan.json"


def test_explain_takes_feature_maps_cells_and_layer_of_a_scan(
    run: Run, model: Path, image: Path, scanned: Path, out: Path
) -> None:
    subset = (f"--channels=@{scanned}", f"--region=@{scanned}")
    result = run("explain", model, image, "-m", "grad-cam", *subset, "-o", out)
    assert result.exit_code == 0, result.stderr
    manifest = json.loads((out / "cat.grad-cam.json").read_text())
    facts = json.loads(scanned.read_text())["scan"]
    assert manifest["layers"] == ["relu1"]
    assert manifest["subset"]["channels"] == facts["channels"]
    cells = [[digit == "1" for digit in row] for row in facts["cells"]]
    assert manifest["subset"]["region"] == cells
    again = run("explain", "--from", out / "cat.grad-cam.json", "-o", out / "again")
    assert again.exit_code == 0, again.stderr


def test_explain_skips_results_only_with_the_same_cells(
    run: Run, model: Path, image: Path, scanned: Path, out: Path
) -> None:
    words = ("explain", model, image, "-m", "grad-cam", "-l", "relu1", "--skip-existing", "-o", out)
    assert "already existed" not in run(*words, f"--region=@{scanned}").stderr
    assert "already existed" in run(*words, f"--region=@{scanned}").stderr
    assert "already existed" not in run(*words, "--region=0:3,0:3").stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("-m", "grad-cam", "-l", "relu2"), "is a scan at the layer relu1, but relu2 was chosen"),
        (("-m", "saliency"), "saliency"),
    ],
)
def test_explain_at_another_place_than_the_scan_is_refused(
    run: Run,
    model: Path,
    image: Path,
    scanned: Path,
    out: Path,
    words: tuple[str, ...],
    message: str,
) -> None:
    result = run("explain", model, image, f"--channels=@{scanned}", *words, "-o", out)
    assert result.exit_code == 2
    assert message in result.stderr


def test_explain_refuses_scan_of_another_model_whatever_its_layers(
    run: Run, image: Path, scanned: Path, out: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.onnx"
    other.write_bytes(DEEP.content())
    for option in ("channels", "region"):
        result = run("explain", other, image, f"--{option}=@{scanned}", "-m", "grad-cam", "-o", out)
        assert result.exit_code == 2
        assert "is a scan of another model than other.onnx" in result.stderr


def test_explain_refuses_other_files_as_scans(
    run: Run, model: Path, image: Path, scanned: Path, out: Path
) -> None:
    assert "cannot be read" in run("explain", model, image, "--channels=@gone.json").stderr
    result = run("explain", "--from", scanned, "-o", out)
    assert result.exit_code == 2
    assert "is of a scan" in result.stderr


def test_image_of_the_background_alone_can_be_scanned(
    run: Run, model: Path, usual: Path, out: Path, tmp_path: Path
) -> None:
    other = write_image(tmp_path / "other.png")
    result = run("scan", model, usual / "03.png", other, "--background", usual, "-o", out, "-q")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "")
