"""One bad file among the images stops none of the others, and none is passed over in silence."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from onnxcam.cli.image_files import SHOWN, collect_images
from onnxcam.errors import ImageError
from tests.cli.conftest import Run
from tests.cli.support.tiny import write_picture
from tests.support.limits import run_limited


@pytest.mark.skipif(os.name == "nt", reason="pipes and devices are files of Unix")
def test_irregular_files_stop_no_others(model: Path, tmp_path: Path, out: Path) -> None:
    folder = tmp_path / "in"
    good = [write_picture(folder / "a.png", 1), write_picture(folder / "z.png", 2)]
    bad = [folder / f"{name}.png" for name in ("device", "loop", "pipe", "sparse")]
    bad[0].symlink_to("/dev/zero")
    bad[1].symlink_to(bad[1].name)
    os.mkfifo(bad[2])
    bad[3].write_bytes(b"\x89PNG\r\n\x1a\n")
    os.truncate(bad[3], 8 << 30)
    words = ["-m", "onnxcam", "explain", model, good[0], *bad, good[1], "-m", "grad-cam", "-o", out]
    finished = run_limited([*map(str, words), "--json"], seconds=60, megabytes=6144)
    assert finished.returncode == 1, finished.stderr
    records = [json.loads(line) for line in finished.stdout.splitlines()]
    failed = {record["picture"]: record["error"] for record in records if record["error"]}
    assert failed.keys() == set(map(str, bad))
    assert "a device, not a regular file" in failed[str(bad[0])]
    assert "a pipe, not a regular file" in failed[str(bad[2])]
    assert sorted(path.name for path in out.glob("*.png")) == ["a.grad-cam.png", "z.grad-cam.png"]
    assert "4 of 6 pictures failed" in finished.stderr


@pytest.mark.skipif(os.name == "nt", reason="pipes and devices are files of Unix")
def test_irregular_files_in_a_folder_are_left_out(
    run: Run, model: Path, tmp_path: Path, out: Path
) -> None:
    folder = tmp_path / "in"
    write_picture(folder / "a.png")
    os.mkfifo(folder / "pipe.png")
    (folder / "device.jpg").symlink_to("/dev/zero")
    (folder / "folder.png").mkdir()
    finished = run("explain", model, folder, "-m", "grad-cam", "-o", out)
    assert finished.exit_code == 0, finished.output
    assert "2 files left out" in finished.stderr
    assert "device.jpg, pipe.png" in finished.stderr


@pytest.mark.parametrize(
    "suffix", [".avif", ".jfif", ".jpe", ".mpo", ".jp2", ".ppm", ".JPG", ".heic"]
)
def test_folders_take_what_pillow_reads(suffix: str, tmp_path: Path) -> None:
    (tmp_path / f"image{suffix}").touch()
    images, notices = collect_images([tmp_path], recursive=False, out=tmp_path / "out")
    assert [path.suffix for path in images] == [suffix]
    assert not notices


@pytest.mark.parametrize("suffix", [".txt", ".eps", ".pdf", ".mp4", ".npy", ""])
def test_others_are_named(suffix: str, tmp_path: Path) -> None:
    write_picture(tmp_path / "a.png")
    (tmp_path / f"other{suffix}").touch()
    _, notices = collect_images([tmp_path], recursive=False, out=tmp_path / "out")
    assert [notice.split(": ")[-1] for notice in notices] == [f"other{suffix}"]


def test_many_others_are_one_line(run: Run, model: Path, tmp_path: Path, out: Path) -> None:
    folder = tmp_path / "in"
    write_picture(folder / "a.png")
    for number in range(SHOWN + 4):
        (folder / f"{number}.txt").touch()
    finished = run("explain", model, folder, "-m", "grad-cam", "-o", out)
    lines = [line for line in finished.stderr.splitlines() if "left out" in line]
    assert len(lines) == 1
    assert lines[0].endswith("0.txt, 1.txt, 2.txt, 3.txt, 4.txt and 4 more")


@pytest.mark.parametrize(
    "name", [".hidden.txt", ".git/config", "Thumbs.db", "desktop.ini", "out/x.npz"]
)
def test_what_nobody_put_there_is_not_named(name: str, tmp_path: Path) -> None:
    write_picture(tmp_path / "a.png")
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).touch()
    images, notices = collect_images([tmp_path], recursive=True, out=tmp_path / "out")
    assert [path.name for path in images] == ["a.png"]
    assert not notices


@pytest.mark.parametrize("name", ["x" * 300 + ".png", "x" * 5000])
def test_paths_that_cannot_be_stop_no_others(
    run: Run, model: Path, picture: Path, out: Path, name: str
) -> None:
    finished = run("explain", model, picture.with_name(name), picture, "-m", "grad-cam", "-o", out)
    assert finished.exit_code == 1, finished.output
    assert (out / "cat.grad-cam.png").is_file()
    assert "1 of 2 pictures failed" in finished.stderr


def test_long_names_in_a_folder_stop_no_others(
    run: Run, model: Path, tmp_path: Path, out: Path
) -> None:
    folder = tmp_path / "in"
    write_picture(folder / "a.png")
    for end in (".png", ".grad-cam.png"):
        write_picture(folder / f"{'x' * (255 - len(end))}{end}")
    finished = run("explain", model, folder, "-m", "grad-cam", "-o", out)
    assert finished.exit_code == 1, finished.output
    assert (out / "a.grad-cam.png").is_file()
    assert "2 of 3 pictures failed" in finished.stderr


def test_an_empty_folder_stops_no_others(run: Run, model: Path, tmp_path: Path, out: Path) -> None:
    (tmp_path / "empty").mkdir()
    image = write_picture(tmp_path / "a.png")
    finished = run("explain", model, tmp_path / "empty", image, "-m", "grad-cam", "-o", out)
    assert finished.exit_code == 0, finished.output
    assert "empty: no images in this folder (--recursive" in finished.stderr


def test_a_folder_of_others_only_says_which(tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").touch()
    with pytest.raises(ImageError, match=r"no images in this folder.*left out.*clip\.mp4"):
        collect_images([tmp_path], recursive=False, out=tmp_path / "out")


def test_a_folder_that_cannot_be_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Path) -> Iterator[Path]:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refuse)  # the tests may run as root
    with pytest.raises(ImageError, match="cannot be listed"):
        collect_images([tmp_path], recursive=False, out=tmp_path / "out")
