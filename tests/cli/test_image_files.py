"""Which pictures are found, how results are named, and what a second run leaves out."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from onnxcam.cli.image_files import collect_images, names, slugs
from onnxcam.errors import ImageError
from tests.cli.conftest import Run
from tests.cli.support.tiny import write_picture


def test_a_folder_is_searched_for_pictures(tmp_path: Path) -> None:
    for name in ("b.PNG", "a.jpg", "deep/c.webp", ".hidden.png"):
        write_picture(tmp_path / name)
    (tmp_path / "a.txt").touch()
    out = tmp_path / "out"
    flat, notices = collect_images([tmp_path], recursive=False, out=out)
    assert [each.name for each in flat] == ["a.jpg", "b.PNG"]
    assert notices == [
        f"{tmp_path}: 1 file left out, not named like an image that can be read: a.txt"
    ]
    deep, _ = collect_images([tmp_path, tmp_path / "a.jpg"], recursive=True, out=out)
    assert [each.name for each in deep] == ["a.jpg", "b.PNG", "c.webp"]


def test_results_of_earlier_runs_are_no_pictures(run: Run, model: Path, tmp_path: Path) -> None:
    write_picture(tmp_path / "a.png")
    run("explain", model, tmp_path, "-m", "grad-cam", "-o", tmp_path)
    run("explain", model, tmp_path, "-m", "grad-cam", "-o", tmp_path / "maps")
    again, notices = collect_images([tmp_path], recursive=True, out=tmp_path / "maps")
    assert [each.name for each in again] == ["a.png"]
    assert not notices


def test_a_folder_without_pictures_is_an_error(run: Run, model: Path, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="--recursive"):
        collect_images([tmp_path], recursive=False, out=tmp_path / "out")
    assert run("explain", model, tmp_path).exit_code == 2


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (["a/x.png", "a/y.png"], ["x", "y"]),
        (["a/x.png", "a/x.jpg"], ["x.png", "x.jpg"]),
        (["a/x.png", "b/x.png", "b/y.png"], ["a-x.png", "b-x.png", "y"]),
        (["a/x.png", "a/X.png"], ["x.png", "X.png-2"]),
        (["a/x.png", "a/x.jpg", "b/x.png"], ["a-x.png", "a-x.jpg", "b-x.png"]),
        (["a/x.png", "a/x.jpg", "x.png.gif"], ["x.png", "x.jpg", "x.png-2"]),
        (["c/a/x.png", "d/a/x.png"], ["c-a-x.png", "d-a-x.png"]),
        (["a/x.png", "a/../b/x.png"], ["a-x.png", "b-x.png"]),
    ],
)
def test_names_differ(paths: list[str], expected: list[str]) -> None:
    given = [Path(each) for each in paths]
    result = names(given)
    assert result == expected
    assert names(given) == result


def test_names_of_targets_differ() -> None:
    assert slugs(["281"]) == [""]
    assert slugs(["tabby cat", "tabby/cat", "281-282", "../.."]) == [
        ".tabby-cat",
        ".tabby-cat-2",
        ".281-282",
        ".target",
    ]


def test_pictures_of_one_name_do_not_overwrite_each_other(
    run: Run, model: Path, tmp_path: Path, out: Path
) -> None:
    for number, name in enumerate(("a/x.png", "b/x.png", "b/x.jpg", "c/y.png")):
        write_picture(tmp_path / "in" / name, number)
    found = run("explain", model, tmp_path / "in", "-r", "-m", "grad-cam", "-o", out, "--json")
    records = [json.loads(line) for line in found.stdout.splitlines()]
    assert len({each["manifest"] for each in records}) == 4
    for each in records:
        manifest = json.loads(Path(each["manifest"]).read_text())
        assert manifest["picture"]["source"] == each["picture"]


def test_a_second_run_leaves_out_what_is_there(
    run: Run, model: Path, tmp_path: Path, out: Path
) -> None:
    first = write_picture(tmp_path / "in" / "a.png", 1)
    write_picture(tmp_path / "in" / "b.png", 2)
    words = (
        "explain",
        model,
        tmp_path / "in",
        "-m",
        "grad-cam",
        "-o",
        out,
        "--skip-existing",
        "--json",
    )

    def skipped(*more: object) -> list[bool]:
        lines = run(*words, *more).stdout.splitlines()
        return [json.loads(line)["skipped"] for line in lines]

    assert skipped() == [False, False]
    assert skipped() == [True, True]
    assert skipped("-t", "1") == [False, False]
    assert skipped("-t", "1", "--opacity", "0.2") == [False, False]
    assert skipped("-t", "1", "--opacity", "0.2") == [True, True]
    write_picture(first, 3)
    assert skipped("-t", "1", "--opacity", "0.2") == [False, True]
    (out / "a.grad-cam.npz").unlink()
    manifest = out / "b.grad-cam.json"
    manifest.write_bytes(manifest.read_bytes()[:100])
    assert skipped("-t", "1", "--opacity", "0.2") == [False, False]


def test_a_second_run_says_so(run: Run, model: Path, picture: Path, out: Path) -> None:
    words = ("explain", model, picture, "-m", "grad-cam", "-o", out, "--skip-existing")
    run(*words)
    found = run(*words)
    assert "there already" in found.stdout
    assert "0 maps written" in found.stderr


@pytest.mark.skipif(os.name == "nt", reason="file names are Unicode there")
def test_a_name_that_is_not_unicode(run: Run, model: Path, tmp_path: Path, out: Path) -> None:
    path = write_picture(tmp_path / "plain.png").rename(tmp_path / os.fsdecode(b"caf\xe9.png"))
    found = run("explain", model, path, "-m", "grad-cam", "-o", out, "--json")
    assert found.exit_code == 0, found.output
    assert json.loads(found.stdout)["picture"] == str(path)
