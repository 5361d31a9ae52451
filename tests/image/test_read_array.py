"""Arrays as images: .npy, .npz, and the pages, floats and wide integers of a TIFF."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from onnxcam.errors import ImageError
from onnxcam.image.read_array import file_of, is_array_file, key_of, read_array
from onnxcam.specs import ImageInput

FOUR = ImageInput("x", "NCHW", 4, None, None, None, np.dtype(np.float32))
GRAY = replace(FOUR, channels=1)
CHANNELS = np.random.default_rng(0).normal(size=(4, 6, 5)).astype(np.float32)


def write_tiff(path: Path, *pages: Any) -> Path:
    first, *others = [Image.fromarray(page) for page in pages]
    first.save(path, save_all=True, append_images=others)
    return path


def with_header(text: bytes) -> bytes:
    """A .npy file of this header, and few numbers."""
    header = text.ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(16)


HUGE = with_header(b"{'descr': '<f4', 'fortran_order': False, 'shape': (4, 900000, 900000), }")


@pytest.mark.parametrize("dtype", ["f4", "f8", "u1", "i2", "f2", "?"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_npy_and_npz_are_read_as_they_are(tmp_path: Path, dtype: str, order: Any) -> None:
    array = np.asarray(CHANNELS * 100, order=order).astype(dtype, order=order)
    np.save(tmp_path / "a.npy", array)
    np.savez(tmp_path / "one.npz", array)
    np.savez_compressed(tmp_path / "two.npz", image=array, other=array[0])
    for name in ("a.npy", "one.npz", "two.npz:image"):
        read = read_array(tmp_path / name, FOUR)
        assert read is not None
        assert read.dtype == array.dtype
        np.testing.assert_array_equal(read, array)


def test_names_of_members_are_parsed() -> None:
    assert file_of("a/b.npz:key") == Path("a/b.npz")
    assert (key_of("a/b.npz:key"), key_of("b.npz"), key_of("a.png")) == ("key", None, None)
    assert file_of("a.npz:b/c.png") == Path("a.npz:b/c.png")  # a folder with a colon
    assert is_array_file("x.NPY")
    assert is_array_file("x.npz:key")
    assert not is_array_file("x.tif")


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("dtype", ["f4", "u2", "u1"])
def test_pages_of_a_tiff_are_channels(tmp_path: Path, layout: str, dtype: str) -> None:
    pages = (np.abs(CHANNELS) * 50).astype(dtype)
    path = write_tiff(tmp_path / "a.tif", *pages)
    read = read_array(path, replace(FOUR, layout=layout))
    expected = pages if layout == "NCHW" else np.moveaxis(pages, 0, -1)
    np.testing.assert_array_equal(read, expected)


def test_tiff_of_one_page_of_floats_is_an_array(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "a.tiff", CHANNELS[0])
    np.testing.assert_array_equal(read_array(path, GRAY), CHANNELS[:1])


def test_tiff_of_wide_integers_is_an_array_for_a_model_that_takes_them(tmp_path: Path) -> None:
    wide = (np.abs(CHANNELS[0]) * 1000).astype(np.uint16)
    path = write_tiff(tmp_path / "a.tif", wide)
    takes = replace(GRAY, dtype=np.dtype(np.uint16))
    np.testing.assert_array_equal(read_array(path, takes), wide[None])
    assert read_array(path, GRAY) is None  # scaled to 8 bits, like other images


def test_images_of_colors_are_no_arrays(tmp_path: Path) -> None:
    colors = np.zeros((6, 5, 3), np.uint8)
    animation = write_tiff(tmp_path / "animation.tif", colors, colors, colors, colors)
    gray = write_tiff(tmp_path / "gray.tif", colors[..., 0])
    pages = write_tiff(tmp_path / "pages.tif", colors[..., 0], colors[..., 0])
    assert read_array(animation, FOUR) is None
    assert read_array(gray, GRAY) is None
    assert read_array(pages, GRAY) is None  # the first page is the image
    assert read_array(tmp_path / "cat.png", FOUR) is None


def npz_of(member: bytes) -> bytes:
    file = BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.npy", member)
    return file.getvalue()


def two_arrays() -> bytes:
    file = BytesIO()
    np.savez(file, a=CHANNELS, b=CHANNELS)
    return file.getvalue()


def pickled() -> bytes:
    file = BytesIO()
    np.save(file, np.array([{}], dtype=object), allow_pickle=True)
    return file.getvalue()


def different_pages() -> bytes:
    file = BytesIO()
    Image.fromarray(CHANNELS[0]).save(
        file, "TIFF", save_all=True, append_images=[Image.fromarray(CHANNELS[0, :3])] * 3
    )
    return file.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.npy", lambda: b"", "is damaged, or holds no array"),
        ("a.npy", lambda: b"\x89PNG not an array", "write it with numpy.save"),
        ("a.npy", lambda: HUGE, "is damaged, or holds no array"),
        ("a.npy", pickled, "holds no array of numbers"),
        ("a.npz", lambda: b"PK", "write it with numpy.savez"),
        ("a.npz", lambda: npz_of(HUGE), "is damaged, or holds no array"),
        ("a.npz", lambda: npz_of(pickled()), "is damaged, or holds no array"),
        ("a.npz", two_arrays, r"holds 2 arrays; name one of them: .*a\.npz:a, .*a\.npz:b"),
        ("a.npz:c", two_arrays, "holds no array 'c'; its arrays: a, b"),
        ("a.tif", different_pages, "its 4 pages differ in size"),
        ("a.tif", lambda: b"II*\x00damaged", "damaged|is not an image"),
    ],
)
def test_unreadable_array_is_error(
    tmp_path: Path, name: str, content: Callable[[], bytes], words: str
) -> None:
    file_of(tmp_path / name).write_bytes(content())
    with pytest.raises(ImageError, match=words) as caught:
        read_array(tmp_path / name, FOUR)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["none.npy", "none.npz", "none.npz:key", "none.tif"])
def test_missing_array_is_error(tmp_path: Path, name: str) -> None:
    with pytest.raises(ImageError, match="no such file; check the path"):
        read_array(tmp_path / name, FOUR)


@pytest.mark.skipif(os.name == "nt", reason="no named pipes")
def test_pipe_is_error(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.npy")
    with pytest.raises(ImageError, match="cannot be read"):
        read_array(tmp_path / "a.npy", FOUR)


def test_too_many_pixels_are_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_tiff(tmp_path / "a.tif", *CHANNELS)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(ImageError, match="more than 100 pixels"):
        read_array(path, FOUR)
