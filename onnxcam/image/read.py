"""Reading images: any image file becomes an upright 8-bit RGB image, anything else an ImageError."""

from __future__ import annotations

import os
import warnings
from io import BytesIO
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from onnxcam.errors import ImageError
from onnxcam.image import heif
from onnxcam.regular_files import open_regular

# These warnings are about tags that are not used, and sizes that are refused below. Filters that a program sets
# later win; filters set only while one image is read would affect other threads.
warnings.filterwarnings("ignore", module=r"PIL\.")

LARGEST_FILE = 1 << 30  # bytes: 12 for each pixel of the largest image that Pillow opens by default
_FORMATS = "PNG, JPEG, WebP, AVIF, BMP, TIFF or GIF"
# Pillow hands these to another program (Ghostscript): an image must not be able to start one.
_STARTS_PROGRAMS = ("EPS",)
# Pillow knows these by name but has no decoder of its own for them.
_NAMED_ONLY = ("BUFR", "GRIB", "HDF5", "MPEG", "WMF")
_READ_AS_JPEG = frozenset({".mpo"})  # registered for writing only
_ORIENTATION_TAG = 0x0112
# EXIF orientation -> what brings the image upright (EXIF 2.32, section 4.6.4).
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def read(source: str | Path | bytes | Image.Image) -> Image.Image:
    """The image in `source` as an upright 8-bit image of mode "RGB", of its full size.

    Transparent parts are laid on white, EXIF rotation is applied, 16-bit gray is scaled to 8 bits
    (65535 becomes 255), and of an animation the first frame is taken (of an open PIL image: the
    frame at which it stands). Color profiles are not applied, as in the usual training pipelines.
    The result carries no metadata and shares no pixels with `source`.

    Args:
        source: A path, the bytes of an image file, or a PIL image (left as it is).

    Raises:
        ImageError: The file is missing, not an image, damaged, empty or too large
            (`PIL.Image.MAX_IMAGE_PIXELS`, `LARGEST_FILE`), a pipe or a device, HEIC without the
            extra that reads it, or its pixels are floats of unknown range.
    """
    source_name = _name_source(source)
    try:
        return _read(source, source_name)
    except ImageError:
        raise
    # Decoders raise all kinds of exceptions (struct.error, KeyError, zlib.error, ...); all of them mean
    # that the file is damaged.
    except Exception as error:
        raise ImageError(f"{source_name}: {describe_failure(error)}") from error


def read_mask(source: str | Path | bytes | Image.Image) -> NDArray[np.bool_]:
    """(height, width): the pixels of an upright image that are not 0 or, of an image with transparent pixels,
    the others. ImageError as `read` raises it.
    """
    colors = np.asarray(read(source)).any(axis=2)
    if isinstance(source, Image.Image) or not isinstance(source, (str, Path)):
        return np.asarray(colors)
    with Image.open(source) as image:
        if "A" not in image.getbands() and "transparency" not in image.info:
            return np.asarray(colors)
        layers = image.convert("RGBA")
        turned = layers.transpose(_UPRIGHT[turn]) if (turn := _turn(image)) else layers
        opaque = np.asarray(turned)[:, :, 3] > 0
    return np.asarray(colors if opaque.all() else opaque)


def _turn(image: Image.Image) -> int | None:
    """The EXIF orientation of an image that is not upright."""
    orientation = image.getexif().get(_ORIENTATION_TAG)
    return orientation if orientation in _UPRIGHT else None


def readable_suffixes() -> frozenset[str]:
    """The file extensions, with the dot and in lower case, that `read` accepts by default."""
    Image.init()
    decodable = {
        suffix for suffix, kind in Image.registered_extensions().items() if _can_read(kind)
    }
    return frozenset(decodable | _READ_AS_JPEG | heif.SUFFIXES)


def _can_read(kind: str) -> bool:
    return kind in Image.OPEN and kind not in (*_STARTS_PROGRAMS, *_NAMED_ONLY)


def _read(source: str | Path | bytes | Image.Image, source_name: str) -> Image.Image:
    if isinstance(source, Image.Image):
        return _convert(source, source_name)
    with _open(source, source_name) as stream:
        if heif.is_heif(stream) and not heif.register_heif():
            raise ImageError(
                f"{source_name}: is a HEIC image, which needs an extra; pip install 'onnxcam[heic]', or save "
                f"it as {_FORMATS}"
            )
        with Image.open(stream) as image:
            return _convert(image, source_name)


def describe_failure(error: Exception) -> str:
    """What an exception of the file system or of a decoder means, and what to do."""
    match error:
        case FileNotFoundError():
            return "no such file; check the path"
        case IsADirectoryError():
            return "is a folder; name the image in it"
        case PermissionError():
            return "cannot be read (permission denied); check the file's permissions"
        case Image.DecompressionBombError() | Image.DecompressionBombWarning():
            return _too_large()
        case MemoryError():
            return "the image does not fit into memory; make it smaller"
        case UnidentifiedImageError():
            return f"is not an image; expected {_FORMATS}"
        case OSError(filename=str(), strerror=str(cause)):  # of the file system, not of a decoder
            return f"cannot be read ({cause}); name an image file"
    cause = " ".join(str(error).split()) or type(error).__name__
    return f"the image is damaged or of an unknown kind ({cause}); save it again as {_FORMATS}"


def _name_source(source: object) -> str:
    match source:
        case bytes():
            return "the bytes"
        case Image.Image():
            return "the PIL image"
        case str() | Path():
            return str(source) or "an empty path"
    raise ImageError(
        f"cannot read an image from {type(source).__name__}; "
        "expected a path, the bytes of a file, or a PIL image"
    )


def _open(source: str | Path | bytes, source_name: str) -> IO[bytes]:
    if isinstance(source, bytes):
        return BytesIO(source)
    stream = open_regular(source or ".")
    size = os.fstat(stream.fileno()).st_size
    if size > LARGEST_FILE:
        stream.close()
        raise ImageError(
            f"{source_name}: the file is {size / 1e9:.2f} GB, more than the maximum of "
            f"{LARGEST_FILE / 1e9:.2f} GB; make it smaller, or open it with Pillow and explain that image"
        )
    return stream


def _convert(image: Image.Image, source_name: str) -> Image.Image:
    return _to_rgb(_turn_upright(_load(image, source_name)), source_name)


def _load(image: Image.Image, source_name: str) -> Image.Image:
    if image.format in _STARTS_PROGRAMS:
        raise ImageError(
            f"{source_name}: the format {image.format} is not supported; save it as {_FORMATS}"
        )
    require_size(image, source_name)
    image.load()
    return image


def require_size(image: Image.Image, source_name: str, pages: int = 1) -> None:
    """ImageError for an image without pixels, or with more in its pages than Pillow's limit."""
    # Pillow only warns between once and twice its limit.
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and image.width * image.height * pages > limit:
        raise ImageError(f"{source_name}: {_too_large()}")
    if not image.width * image.height:
        raise ImageError(f"{source_name}: the image has no pixels ({image.width} x {image.height})")


def _too_large() -> str:
    return (
        f"the image has more than {Image.MAX_IMAGE_PIXELS} pixels; make it smaller, or "
        "raise PIL.Image.MAX_IMAGE_PIXELS if you trust the file"
    )


def _turn_upright(image: Image.Image) -> Image.Image:
    # Not ImageOps.exif_transpose: it writes the other EXIF fields anew and fails on odd ones.
    turn = _UPRIGHT.get(image.getexif().get(_ORIENTATION_TAG, 1))
    return image if turn is None else image.transpose(turn)


def _to_rgb(image: Image.Image, source_name: str) -> Image.Image:
    if image.mode == "F":
        raise ImageError(
            f"{source_name}: its pixels are floats, and it is unknown which values are black and white; "
            "save it with 8 or 16 bits per channel"
        )
    if image.mode.startswith("I"):
        image = _to_eight_bits(image, source_name)
    rgb = _lay_on_white(image) if image.has_transparency_data else image.convert("RGB")
    rgb.info.clear()  # otherwise a second call would apply its EXIF rotation again
    return rgb


def _to_eight_bits(image: Image.Image, source_name: str) -> Image.Image:
    values = np.asarray(image)
    if values.min() < 0 or values.max() > 65535:
        raise ImageError(
            f"{source_name}: its pixels range from {values.min()} to {values.max()}, expected 0 to 65535; "
            "save it with 8 or 16 bits per channel"
        )
    return Image.fromarray(np.rint(values * (255 / 65535)).astype(np.uint8))


def _lay_on_white(image: Image.Image) -> Image.Image:
    if image.mode == "La":  # has no direct way to RGBA
        image = image.convert("LA")
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
