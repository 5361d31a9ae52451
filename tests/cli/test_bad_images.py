"""A bad file does not stop the other images, and no file is skipped silently."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from onnxcam.cli.image_files import MAX_LISTED, collect_images
from onnxcam.errors import ImageError
from tests.cli.conftest import Run
from tests.cli.support.tiny import write_image
from tests.support.limits import run_limited


@pytest.mark.skipif(os.name == "nt", reason="pipes and devices are files of Unix")
def test_irregular_files_do_not_stop_other_images(model: Path, tmp_path: Path, out: Path) -> None:
    folder = tmp_path / "in"
    good = [write_image(folder / "a.png", 1), write_image(folder / "z.png", 2)]
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
    failed = {record["image"]: record["error"] for record in records if record["error"]}
    assert failed.keys() == set(map(str, bad))
    assert "a device, not a regular file" in failed[str(bad[0])]
    assert "a pipe, not a regular file" in failed[str(bad[2])]
    assert sorted(path.name for path in out.glob("*.png")) == ["a.grad-cam.png", "z.grad-cam.png"]
    assert "4 of 6 images failed" in finished.stderr


@pytest.mark.skipif(os.name == "nt", reason="pipes and devices are files of Unix")
def test_irregular_files_in_folder_are_skipped(
    run: Run, model: Path, tmp_path: Path, out: Path
) -> None:
    folder = tmp_path / "in"
    write_image(folder / "a.png")
    os.mkfifo(folder / "pipe.png")
    (folder / "device.jpg").symlink_to("/dev/zero")
    (folder / "folder.png").mkdir()
    finished = run("explain", model, folder, "-m", "grad-cam", "-o", out)
    assert finished.exit_code == 0, finished.output
    assert "skipped 2 files" in finished.stderr
    assert "device.jpg, pipe.png" in finished.stderr


@pytest.mark.parametrize(
    "suffix", [".avif", ".jfif", ".jpe", ".mpo", ".jp2", ".ppm", ".JPG", ".heic"]
)
def test_folders_collect_all_readable_formats(suffix: str, tmp_path: Path) -> None:
    (tmp_path / f"image{suffix}").touch()
    images, notices = collect_images([tmp_path], recursive=False, out=tmp_path / "out")
    assert [path.suffix for path in images] == [suffix]
    assert not notices


@pytest.mark.parametrize("suffix", [".txt", ".eps", ".pdf", ".mp4", ".npy", ""])
def test_skipped_files_are_named(suffix: str, tmp_path: Path) -> None:
    write_image(tmp_path / "a.png")
    (tmp_path / f"other{suffix}").touch()
    _, notices = collect_images([tmp_path], recursive=False, out=tmp_path / "out")
    assert [notice.split(": ")[-1] for notice in notices] == [f"other{suffix}"]


def test_many_skipped_files_are_one_line(run: Run, model: Path, tmp_path: Path, out: Path) -> None:
    folder = tmp_path / "in"
    write_image(folder / "a.png")
    for number in range(MAX_LISTED + 4):
        (folder / f"{number}.txt").touch()
    finished = run("explain", model, folder, "-m", "grad-cam", "-o", out)
    lines = [line for line in finished.stderr.splitlines() if ": skipped 9 files" in line]
    assert len(lines) == 1
    assert lines[0].endswith("0.txt, 1.txt, 2.txt, 3.txt, 4.txt and 4 more")


@pytest.mark.parametrize(
    "name", [".hidden.txt", ".git/config", "Thumbs.db", "desktop.ini", "out/x.npz"]
)
def test_system_files_are_not_named(name: str, tmp_path: Path) -> None:
    write_image(tmp_path / "a.png")
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).touch()
    images, notices = collect_images([tmp_path], recursive=True, out=tmp_path / "out")
    assert [path.name for path in images] == ["a.png"]
    assert not notices


@pytest.mark.parametrize("name", ["x" * 300 + ".png", "x" * 5000])
def test_impossible_paths_do_not_stop_other_images(
    run: Run, model: Path, image: Path, out: Path, name: str
) -> None:
    finished = run("explain", model, image.with_name(name), image, "-m", "grad-cam", "-o", out)
    assert finished.exit_code == 1, finished.output
    assert (out / "cat.grad-cam.png").is_file()
    assert "1 of 2 images failed" in finished.stderr


def test_long_names_in_folder_do_not_stop_other_images(
    run: Run, model: Path, tmp_path: Path, out: Path
) -> None:
    folder = tmp_path / "in"
    write_image(folder / "a.png")
    for end in (".png", ".grad-cam.png"):
        write_image(folder / f"{'x' * (255 - len(end))}{end}")
    finished = run("explain", model, folder, "-m", "grad-cam", "-o", out)
    assert finished.exit_code == 1, finished.output
    assert (out / "a.grad-cam.png").is_file()
    assert "2 of 3 images failed" in finished.stderr


def test_empty_folder_does_not_stop_other_images(
    run: Run, model: Path, tmp_path: Path, out: Path
) -> None:
    (tmp_path / "empty").mkdir()
    image = write_image(tmp_path / "a.png")
    finished = run("explain", model, tmp_path / "empty", image, "-m", "grad-cam", "-o", out)
    assert finished.exit_code == 0, finished.output
    assert "empty: no images in this folder (--recursive" in finished.stderr


def test_folder_without_images_names_its_files(tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").touch()
    with pytest.raises(ImageError, match=r"no images in this folder.*skipped.*clip\.mp4"):
        collect_images([tmp_path], recursive=False, out=tmp_path / "out")


def test_unlistable_folder_is_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Path) -> Iterator[Path]:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refuse)  # the tests may run as root
    with pytest.raises(ImageError, match="cannot be listed"):
        collect_images([tmp_path], recursive=False, out=tmp_path / "out")
