"""Which images are finished, how results are named, and what a second run leaves out."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from onnxcam.bundled import bundled_model, sample_images
from onnxcam.cli.image_files import collect_images, result_names, target_suffixes
from onnxcam.errors import ImageError
from tests.cli.conftest import Run
from tests.cli.support.tiny import write_image

LAYERS = ("-l", "relu", "-l", "relu_4")
CHANNELS = ("--top-channels", "3")


def test_images_are_collected_from_folders(tmp_path: Path) -> None:
    for name in ("b.PNG", "a.jpg", "deep/c.webp", ".hidden.png"):
        write_image(tmp_path / name)
    (tmp_path / "a.txt").touch()
    out = tmp_path / "out"
    flat, notices = collect_images([tmp_path], recursive=False, out=out)
    assert [path.name for path in flat] == ["a.jpg", "b.PNG"]
    assert notices == [f"{tmp_path}: skipped 1 file without an image file extension: a.txt"]
    deep, _ = collect_images([tmp_path, tmp_path / "a.jpg"], recursive=True, out=out)
    assert [path.name for path in deep] == ["a.jpg", "b.PNG", "c.webp"]


def test_results_of_earlier_runs_are_not_collected(run: Run, model: Path, tmp_path: Path) -> None:
    write_image(tmp_path / "a.png")
    run("explain", model, tmp_path, "-m", "grad-cam", "-o", tmp_path)
    run("explain", model, tmp_path, "-m", "grad-cam", "-o", tmp_path / "maps")
    collected_again, notices = collect_images([tmp_path], recursive=True, out=tmp_path / "maps")
    assert [path.name for path in collected_again] == ["a.png"]
    assert not notices


OTHER_RESULTS = {
    "visualize": [("visualize", "-t", "star", "--steps", "1", "--count", n) for n in "31"],
    "invert": [("invert", "IMAGE", "--steps", "1", *names) for names in (LAYERS, LAYERS[:2])],
    "channels": [("explain", "IMAGE", "-m", "grad-cam", *more) for more in (CHANNELS, ())],
    "scan": [("scan", "IMAGE", "--background", "FOLDER")],
    "concepts": [("concepts", "FOLDER", "-k", "2", "--contributions", "IMAGE")],
    "compare": [("compare", "IMAGE", "-m", "grad-cam", "-o", "OUT/sheet.png")],
}


@pytest.mark.parametrize("calls", OTHER_RESULTS.values(), ids=OTHER_RESULTS)
@pytest.mark.parametrize("is_beside_images", [True, False])
def test_results_of_other_commands_are_not_collected(
    run: Run, tmp_path: Path, calls: list[tuple[str, ...]], is_beside_images: bool
) -> None:
    """Also not those of the first call that the second one does not write again."""
    image, out = sample_images()[0], tmp_path / "out"
    paths = {"IMAGE": image, "FOLDER": image.parent, "OUT/sheet.png": out / "sheet.png"}
    out.mkdir()
    for command, *words in calls:
        target = () if command == "compare" else ("-o", out)
        result = run(command, bundled_model(), *(paths.get(word, word) for word in words), *target)
        assert result.exit_code == 0, result.output
    if is_beside_images:
        write_image(out / "a.png")
        collected, notices = collect_images([out], recursive=False, out=tmp_path / "other")
        assert ([path.name for path in collected], notices) == (["a.png"], [])
    else:
        with pytest.raises(
            ImageError, match=r"no images in this folder \S+ searches its subfolders\)$"
        ):
            collect_images([out], recursive=False, out=tmp_path / "other")


def test_checkpoint_of_interrupted_run_is_not_collected(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png")
    for name in ("m.star.visualize.checkpoint.npz", "a.m.invert.relu_4.checkpoint.npz"):
        (tmp_path / name).touch()
    assert collect_images([tmp_path], recursive=False, out=tmp_path / "out") == (
        [tmp_path / "a.png"],
        [],
    )


def test_images_named_like_results_are_collected(tmp_path: Path) -> None:
    """Without a manifest, or with more than one word after the method."""
    names = ["a.scan.png", "b.visualize.2.png", "c.grad-cam.crop.png"]
    for name in names:
        write_image(tmp_path / name)
    (tmp_path / "c.grad-cam.json").touch()
    collected, _ = collect_images([tmp_path], recursive=False, out=tmp_path / "out")
    assert [path.name for path in collected] == names


def test_folder_without_images_is_error(run: Run, model: Path, tmp_path: Path) -> None:
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
def test_result_names_are_distinct(paths: list[str], expected: list[str]) -> None:
    images = [Path(path) for path in paths]
    result = result_names(images)
    assert result == expected
    assert result_names(images) == result


def test_target_suffixes_are_distinct() -> None:
    assert target_suffixes(["281"]) == [""]
    assert target_suffixes(["tabby cat", "tabby/cat", "281-282", "../.."]) == [
        ".tabby-cat",
        ".tabby-cat-2",
        ".281-282",
        ".target",
    ]


def test_images_of_same_name_keep_separate_results(
    run: Run, model: Path, tmp_path: Path, out: Path
) -> None:
    for number, name in enumerate(("a/x.png", "b/x.png", "b/x.jpg", "c/y.png")):
        write_image(tmp_path / "in" / name, number)
    finished = run("explain", model, tmp_path / "in", "-r", "-m", "grad-cam", "-o", out, "--json")
    records = [json.loads(line) for line in finished.stdout.splitlines()]
    assert len({record["manifest"] for record in records}) == 4
    for record in records:
        manifest = json.loads(Path(record["manifest"]).read_text())
        assert manifest["image"]["source"] == record["image"]


def test_skip_existing_skips_unchanged_results(
    run: Run, model: Path, tmp_path: Path, out: Path
) -> None:
    first = write_image(tmp_path / "in" / "a.png", 1)
    write_image(tmp_path / "in" / "b.png", 2)
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

    def skipped_flags(*more: object) -> list[bool]:
        lines = run(*words, *more).stdout.splitlines()
        return [json.loads(line)["skipped"] for line in lines]

    assert skipped_flags() == [False, False]
    assert skipped_flags() == [True, True]
    assert skipped_flags("-t", "1") == [False, False]
    assert skipped_flags("-t", "1", "--opacity", "0.2") == [False, False]
    assert skipped_flags("-t", "1", "--opacity", "0.2") == [True, True]
    write_image(first, 3)
    assert skipped_flags("-t", "1", "--opacity", "0.2") == [False, True]
    (out / "a.grad-cam.npz").unlink()
    manifest = out / "b.grad-cam.json"
    manifest.write_bytes(manifest.read_bytes()[:100])
    assert skipped_flags("-t", "1", "--opacity", "0.2") == [False, False]


def test_skipped_results_are_reported(run: Run, model: Path, image: Path, out: Path) -> None:
    words = ("explain", model, image, "-m", "grad-cam", "-o", out, "--skip-existing")
    run(*words)
    finished = run(*words)
    assert "already exist" in finished.stdout
    assert "0 maps written" in finished.stderr


@pytest.mark.skipif(os.name == "nt", reason="file names are Unicode there")
def test_file_name_that_is_not_unicode_is_explained(
    run: Run, model: Path, tmp_path: Path, out: Path
) -> None:
    path = write_image(tmp_path / "plain.png").rename(tmp_path / os.fsdecode(b"caf\xe9.png"))
    finished = run("explain", model, path, "-m", "grad-cam", "-o", out, "--json")
    assert finished.exit_code == 0, finished.output
    assert json.loads(finished.stdout)["image"] == str(path)
