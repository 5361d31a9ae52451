"""Pipes, devices, sockets, folders and endless files are refused, quickly and in little memory."""

from __future__ import annotations

import io
import os
import socket
import sys
import types
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from onnxcam.errors import ImageError
from onnxcam.image import heif
from onnxcam.image.read import LARGEST_FILE, read, readable_suffixes
from onnxcam.regular_files import digest_file, open_regular
from tests.support.limits import run_limited

pytestmark = pytest.mark.skipif(os.name == "nt", reason="pipes and devices are files of Unix")


def make_pipe(path: Path) -> None:
    os.mkfifo(path)


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))


def make_link_to(target: str) -> Callable[[Path], None]:
    return lambda path: path.symlink_to(target)


def make_sparse(head: bytes) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        path.write_bytes(head)
        os.truncate(path, 8 << 30)

    return make


PNG_HEAD = b"\x89PNG\r\n\x1a\n" + (13).to_bytes(4, "big") + b"IHDR"
IRREGULAR: dict[str, tuple[Callable[[Path], None], str]] = {
    "pipe": (make_pipe, "a pipe, not a regular file"),
    "link to a device": (make_link_to("/dev/zero"), "a device, not a regular file"),
    "link to itself": (make_link_to("image.png"), "cannot be read"),
    "link to nothing": (make_link_to("gone.png"), "no such file"),
    "folder": (Path.mkdir, "is a folder"),
    "sparse zeros": (make_sparse(b""), "8.59 GB, more than the maximum of 1.07 GB"),
    "sparse PNG": (make_sparse(PNG_HEAD), "8.59 GB"),
    "sparse WebP": (make_sparse(b"RIFF\xff\xff\xff\xffWEBPVP8 "), "8.59 GB"),
}


@pytest.mark.parametrize("kind", IRREGULAR)
def test_irregular_files_are_refused(kind: str, tmp_path: Path) -> None:
    make, message = IRREGULAR[kind]
    path = tmp_path / "image.png"
    make(path)
    code = f"""
from onnxcam.errors import ImageError
from onnxcam.image.read import read
try:
    read({str(path)!r})
except ImageError as error:
    print(error)
"""
    finished = run_limited(code, seconds=20, megabytes=2048)
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.startswith(f"{path}: ")
    assert message in finished.stdout


def test_socket_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's path is at most 107 bytes
    make_socket(Path("s.png"))
    with pytest.raises(ImageError, match=r"s\.png: cannot be read \(a socket, not a regular file"):
        read("s.png")


def test_path_that_becomes_a_pipe_does_not_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    regular, pipe = tmp_path / "regular", tmp_path / "pipe"
    regular.touch()
    os.mkfifo(pipe)
    status = regular.stat()
    monkeypatch.setattr(os, "stat", lambda *_, **__: status)
    with pytest.raises(OSError, match="a pipe, not a regular file"):
        open_regular(pipe)


def test_digest_is_streamed(tmp_path: Path) -> None:
    path = tmp_path / "large"
    path.touch()
    os.truncate(path, 300 << 20)
    code = f"from onnxcam.regular_files import digest_file; print(digest_file({str(path)!r}))"
    finished = run_limited(code, seconds=20, megabytes=256)
    assert finished.returncode == 0, finished.stderr
    path.write_bytes(b"abc")
    assert digest_file(path).startswith("ba7816bf")


def test_largest_file_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "image.png"
    Image.new("RGB", (4, 4)).save(path)
    size = path.stat().st_size
    monkeypatch.setattr("onnxcam.image.read.LARGEST_FILE", size)
    assert read(path).size == (4, 4)
    monkeypatch.setattr("onnxcam.image.read.LARGEST_FILE", size - 1)
    with pytest.raises(ImageError, match="make it smaller"):
        read(path)
    assert LARGEST_FILE >= 12 * 89_478_485  # Pillow's own limit of pixels, in floats of RGB


def test_image_over_memory_is_refused_and_next_is_read(tmp_path: Path) -> None:
    for name, side in (("large", 9400), ("small", 8)):
        Image.new("1", (side, side)).save(tmp_path / f"{name}.png")  # RGB takes 32 times as much
    code = f"""
from onnxcam.errors import ImageError
from onnxcam.image.read import read
try:
    read({str(tmp_path / "large.png")!r})
except ImageError as error:
    print(error)
print(read({str(tmp_path / "small.png")!r}).size)
"""
    finished = run_limited(code, seconds=20, megabytes=450)
    assert finished.returncode == 0, finished.stderr
    assert "does not fit into memory; make it smaller" in finished.stdout
    assert finished.stdout.endswith("(8, 8)\n")


def test_too_little_memory_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def raise_memory_error(*_: object) -> None:
        raise MemoryError

    stream = io.BytesIO()
    Image.new("RGB", (4, 4)).save(stream, "PNG")
    monkeypatch.setattr(Image.Image, "convert", raise_memory_error)
    with pytest.raises(ImageError, match="does not fit into memory"):
        read(stream.getvalue())


@pytest.mark.parametrize(
    ("suffix", "kind"),
    [
        (".jfif", "JPEG"),
        (".jpe", "JPEG"),
        (".mpo", "MPO"),
        (".jp2", "JPEG2000"),
        (".ppm", "PPM"),
        (".pgm", "PPM"),
        (".avif", "AVIF"),
        (".tga", "TGA"),
        (".dds", "DDS"),
        (".pcx", "PCX"),
        (".sgi", "SGI"),
        (".ico", "ICO"),
    ],
)
def test_suffixes_that_are_listed_are_read(suffix: str, kind: str, tmp_path: Path) -> None:
    from PIL import features

    if kind in ("AVIF", "JPEG2000") and not features.check(
        {"JPEG2000": "jpg_2000"}.get(kind, "avif")
    ):
        pytest.skip(f"this Pillow was built without {kind}")
    assert suffix in readable_suffixes()
    path = tmp_path / f"image{suffix}"
    Image.new("RGB", (16, 16), "red").save(path, kind)
    red, green, _ = np.asarray(read(path)).mean((0, 1))
    assert red > 240 > 20 > green


@pytest.mark.parametrize("suffix", [".eps", ".ps", ".pdf", ".mpg", ".h5", ".grib", ".wmf", ".txt"])
def test_suffixes_of_what_is_not_read(suffix: str) -> None:
    assert suffix not in readable_suffixes()


HEIC = b"\x00\x00\x00\x1cftypheic\x00\x00\x00\x00mif1heicmiaf" + bytes(40)


@pytest.mark.parametrize("brand", [b"heic", b"heix", b"mif1", b"msf1", b"hevc"])
def test_heic_names_its_extra(brand: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    heif.register_heif.cache_clear()
    with pytest.raises(ImageError, match=r"pip install 'onnxcam\[heic\]'"):
        read(HEIC[:8] + brand + HEIC[12:])
    heif.register_heif.cache_clear()
    assert {".heic", ".heif", ".hif"} <= readable_suffixes()


def test_heic_is_registered_once_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[bool] = []
    plugin = types.SimpleNamespace(register_heif_opener=lambda: calls.append(True))
    monkeypatch.setitem(sys.modules, "pillow_heif", plugin)
    heif.register_heif.cache_clear()
    for _ in range(2):
        # the plugin here registers nothing
        with pytest.raises(ImageError, match="is not an image"):
            read(HEIC)
    heif.register_heif.cache_clear()
    assert calls == [True]


@pytest.mark.parametrize(
    "head", [b"", b"ftyp", HEIC[:11], b"\x00\x00\x00 ftypmif1" + bytes(4) + b"avif"]
)
def test_other_formats_are_not_heic(head: bytes) -> None:
    assert not heif.is_heif(io.BytesIO(head))
