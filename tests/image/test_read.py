"""Images of every kind are read upright in RGB; anything else is an ImageError."""

import io
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from onnxcam.errors import ImageError
from onnxcam.image.read import read

FORMATS = ["PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF", "PPM", "ICO", "TGA"]


def shades(height: int = 12, width: int = 20) -> Image.Image:
    """Red grows to the right, green downwards: every orientation looks different."""
    y, x = np.mgrid[:height, :width]
    return Image.fromarray(np.stack([x * 12, y * 20, 0 * x + 60], -1).astype(np.uint8))


def encode(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM", "TGA"])
def test_lossless_formats_keep_every_pixel(kind: str) -> None:
    image = read(encode(shades(), kind))
    assert image.mode == "RGB"
    np.testing.assert_array_equal(image, shades())


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
def test_lossy_formats_are_close(kind: str) -> None:
    image = np.asarray(read(encode(shades(), kind, quality=95)), float)
    assert np.abs(image - np.asarray(shades(), float)).mean() < 6


def test_takes_a_path_its_name_bytes_and_a_image(tmp_path: Path) -> None:
    path = tmp_path / "shades.png"
    shades().save(path)
    for source in (path, str(path), path.read_bytes(), shades()):
        np.testing.assert_array_equal(read(source), shades())


@pytest.mark.parametrize("mode", ["L", "LA", "La", "P", "PA", "1", "CMYK", "YCbCr", "HSV", "RGBa"])
def test_modes_become_rgb(mode: str) -> None:
    through = {"La": "LA", "RGBa": "RGBA", "PA": "P"}.get(mode)
    image = shades().convert(through) if through else shades()
    image = read(image.convert(mode))
    assert (image.mode, image.size) == ("RGB", (20, 12))
    assert np.asarray(image).std() > 10


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_is_laid_on_white(mode: str) -> None:
    clear = Image.new(mode, (3, 2), 0)
    assert read(encode(clear, "PNG")).getcolors() == [(6, (255, 255, 255))]
    half = Image.new("RGBA", (1, 1), (0, 0, 0, 128)).convert(mode)
    assert read(half).getpixel((0, 0)) == (127, 127, 127)


@pytest.mark.parametrize("mode", ["P", "L", "RGB"])
def test_transparent_color_is_white(mode: str) -> None:
    black = Image.new(mode, (2, 2))
    key = (0, 0, 0) if mode == "RGB" else 0
    assert read(encode(black, "PNG", transparency=key)).getpixel((0, 0)) == (255, 255, 255)
    assert read(encode(black, "PNG")).getpixel((0, 0)) == (0, 0, 0)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled(kind: str) -> None:
    deep = np.array([[0, 257, 32768, 65535]], np.uint16)
    image = np.asarray(read(encode(Image.fromarray(deep), kind)))
    assert image[0, :, 0].tolist() == [0, 1, 128, 255]
    assert (image[..., 0] == image[..., 2]).all()


def test_big_endian_sixteen_bits_are_scaled() -> None:
    data = np.array([[256, 65535]], ">u2").tobytes()
    assert np.asarray(read(Image.frombytes("I;16B", (2, 1), data)))[0, :, 0].tolist() == [1, 255]


def test_thirty_two_bits_are_scaled_within_sixteen_and_refused_beyond() -> None:
    fits, beyond = (Image.fromarray(np.array([[0, n]], np.int32)) for n in (65535, 65536))
    assert read(fits).getpixel((1, 0)) == (255, 255, 255)
    with pytest.raises(ImageError, match="0 to 65536, expected 0 to 65535"):
        read(beyond)


def test_floats_are_refused() -> None:
    with pytest.raises(ImageError, match=r"floats.*8 or 16 bits"):
        read(encode(Image.new("F", (2, 2), 0.5), "TIFF"))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP"])
def test_orientation_is_applied_once(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned = {1: 0, 2: 0, 3: 2, 4: 2, 5: 1, 6: 3, 7: 3, 8: 1}  # quarter turns to the left
    y, x = np.mgrid[:24, :40]
    stored = np.stack([x * 6, y * 10, 0 * x], -1).astype(np.uint8)
    upright = np.rot90(stored, turned[orientation])
    if orientation in (2, 4):
        upright = upright[:, ::-1]
    if orientation in (5, 7):
        upright = upright[::-1]
    image = read(encode(Image.fromarray(stored), kind, exif=exif))
    assert np.asarray(image).shape == upright.shape
    assert np.abs(np.asarray(image, float) - upright).mean() < 12
    np.testing.assert_array_equal(read(image), image)


def test_odd_exif_does_not_matter() -> None:
    exif = Image.Exif()
    exif[0x0112] = 77
    np.testing.assert_array_equal(read(encode(shades(), "PNG", exif=exif)), shades())


def test_animations_give_their_first_frame() -> None:
    red, blue = (Image.new("RGB", (4, 4), color) for color in ("red", "blue"))
    for kind in ("GIF", "PNG", "WEBP"):
        moving = encode(red, kind, save_all=True, append_images=[blue], lossless=True)
        assert read(moving).getpixel((1, 1)) == (255, 0, 0)


def test_pil_image_is_not_changed() -> None:
    image = shades().convert("RGBA")
    image.info["note"] = "kept"
    read(image).putpixel((0, 0), (1, 2, 3))
    assert (image.mode, image.info["note"]) == ("RGBA", "kept")
    assert image.getpixel((0, 0)) == (0, 0, 60, 255)


def test_rgb_image_is_copied() -> None:
    image = shades()
    read(image).putpixel((0, 0), (1, 2, 3))
    assert image.getpixel((0, 0)) == (0, 0, 60)


@pytest.mark.parametrize("times", [1.5, 3])
def test_too_many_pixels_are_refused(monkeypatch: pytest.MonkeyPatch, times: float) -> None:
    source = encode(shades(), "PNG")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", int(240 / times))
    with pytest.raises(ImageError, match=r"more than .* pixels; make it smaller"):
        read(source)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_too_many_pixels_is_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 239)
    with pytest.raises(ImageError, match="more than 239 pixels"):
        read(encode(shades(), "PNG"))


def test_no_limit_is_no_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert read(encode(shades(), "PNG")).size == (20, 12)


def test_small_file_of_huge_image_is_refused() -> None:
    head = b"IHDR" + (60000).to_bytes(4) * 2 + bytes([8, 2, 0, 0, 0])
    sizes = (13).to_bytes(4) + head + zlib.crc32(head).to_bytes(4)
    bomb = b"\x89PNG\r\n\x1a\n" + sizes + (64).to_bytes(4) + b"IDAT"
    with pytest.raises(ImageError, match="the bytes: the image has more than"):
        read(bomb + bytes(64))


def test_missing_file_is_error_with_hint(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"gone\.png: no such file; check the path"):
        read(tmp_path / "gone.png")
    with pytest.raises(ImageError, match="is a folder"):
        read(tmp_path)
    with pytest.raises(ImageError, match="is a folder"):
        read("")
    with pytest.raises(ImageError, match="embedded null"):
        read("a\0b.png")


def test_unreadable_file_is_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> io.BytesIO:
        raise PermissionError(13, "Permission denied")

    # the tests may run as root, whom no mode keeps out
    monkeypatch.setattr("onnxcam.image.read.open_regular", refuse)
    with pytest.raises(
        ImageError,
        match=r"cat\.png: cannot be read \(permission denied\); check the file's permissions",
    ):
        read(tmp_path / "cat.png")


def test_file_that_is_not_an_image_is_error(tmp_path: Path) -> None:
    (tmp_path / "notes.jpg").write_text("not an image at all")
    with pytest.raises(ImageError, match=r"notes\.jpg: is not an image; expected PNG"):
        read(tmp_path / "notes.jpg")
    with pytest.raises(ImageError, match="the bytes: is not an image"):
        read(b"")
    with pytest.raises(ImageError, match="from ndarray; expected a path"):
        read(np.zeros((2, 2)))  # type: ignore[arg-type]
    with pytest.raises(ImageError, match=r"no pixels \(0 x 5\)"):
        read(Image.new("RGB", (0, 5)))


def test_no_program_is_started_for_a_image() -> None:
    page = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 4\n%%EndComments\nshowpage\n%%EOF\n"
    with pytest.raises(ImageError, match="the format EPS is not supported"):
        read(page)


def test_files_are_closed(tmp_path: Path) -> None:
    path = tmp_path / "cut.png"
    path.write_bytes(encode(shades(), "PNG")[:60])
    with pytest.raises(ImageError, match=r"cut\.png: the image is damaged"):
        read(path)  # an open file would be a ResourceWarning, and that an error


SAMPLES = {kind: encode(shades(), kind) for kind in FORMATS}
SAMPLES["PNG palette"] = encode(shades().convert("P"), "PNG", transparency=b"\x00\x80\xff" * 9)
SAMPLES["TIFF deflate"] = encode(shades(), "TIFF", compression="tiff_adobe_deflate")
SAMPLES["GIF animated"] = encode(shades(), "GIF", save_all=True, append_images=[shades()])


def read_or_refused(damaged: bytes) -> None:
    try:
        answer = read(damaged).mode
    except ImageError as error:
        answer = str(error)
    assert answer == "RGB" or answer.startswith("the bytes: ")


@pytest.mark.filterwarnings("ignore")  # as users run it: Pillow may warn and go on
@pytest.mark.parametrize("kind", SAMPLES)
@settings(max_examples=80, derandomize=True, deadline=None, database=None)
@given(data=st.data())
def test_damage_is_read_or_refused(kind: str, data: st.DataObject) -> None:
    sample = SAMPLES[kind]
    damaged = bytearray(sample[: data.draw(st.integers(0, len(sample)), "length")])
    for _ in range(data.draw(st.integers(0, 6), "changes")):
        place = data.draw(st.integers(0, min(len(damaged), 160)), "place")
        damaged[place : place + 1] = data.draw(st.binary(max_size=4), "bytes")
    read_or_refused(bytes(damaged))


@settings(max_examples=200, derandomize=True, deadline=None, database=None)
@given(st.sampled_from([b"", *(sample[:12] for sample in SAMPLES.values())]), st.binary())
def test_random_bytes_are_refused(head: bytes, tail: bytes) -> None:
    read_or_refused(head + tail)


@pytest.mark.parametrize(
    ("code", "warned"),
    [
        ("from PIL import Image; Image.open({path!r}).load()", True),
        ("from onnxcam.image.read import read; assert read({path!r}).size == (8, 8)", False),
    ],
)
def test_damaged_tags_are_no_warning_of_ours(tmp_path: Path, code: str, warned: bool) -> None:
    """In a process of its own, as the runner makes warnings errors."""
    path = tmp_path / "image.tif"
    Image.new("RGB", (8, 8)).save(path, dpi=(72, 72))
    content = path.read_bytes()
    # the resolution: a fraction that lies elsewhere
    tag = content.index(struct.pack("<HHL", 282, 5, 1))
    path.write_bytes(content[: tag + 8] + struct.pack("<L", 10**6) + content[tag + 12 :])
    command = [sys.executable, "-c", code.format(path=str(path))]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert ("Warning" in done.stderr) == warned
