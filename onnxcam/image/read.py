"""Any picture file becomes an upright 8-bit RGB picture; anything else becomes an ImageError."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image, UnidentifiedImageError

from onnxcam.errors import ImageError

_FORMATS = "PNG, JPEG, WebP, BMP, TIFF or GIF"
# Pillow hands these to another program (Ghostscript): a picture must not be able to start one.
_STARTS_PROGRAMS = ("EPS",)
_ORIENTATION_TAG = 0x0112
# EXIF orientation -> what brings the picture upright (EXIF 2.32, section 4.6.4).
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
    """The picture in `source` as an upright 8-bit picture of mode "RGB", of its full size.

    Transparent parts are laid on white, EXIF rotation is applied, 16-bit grey is scaled to 8 bits
    (65535 becomes 255), and of an animation the first frame is taken (of an open PIL picture: the
    frame at which it stands). Colour profiles are not applied, as in the usual training pipelines.
    The result carries no metadata and shares no pixels with `source`.

    Args:
        source: A path, the bytes of a picture file, or a PIL picture (left as it is).

    Raises:
        ImageError: The file is missing, not a picture, damaged, empty or too large
            (`PIL.Image.MAX_IMAGE_PIXELS`), or its pixels are floats of unknown range.
    """
    where = _name(source)
    try:
        if isinstance(source, Image.Image):
            return _converted(source, where)
        with _opened(source) as stream, Image.open(stream) as picture:
            return _converted(picture, where)
    except ImageError:
        raise
    except FileNotFoundError as error:
        raise ImageError(f"{where}: no such file; check the path") from error
    except IsADirectoryError as error:
        raise ImageError(f"{where}: is a folder; name the picture in it") from error
    except PermissionError as error:
        raise ImageError(f"{where}: may not be read; check the file's permissions") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_large(where) from error
    except UnidentifiedImageError as error:
        raise ImageError(f"{where}: is not a picture; expected {_FORMATS}") from error
    # Decoders raise whatever they stumble on (struct.error, KeyError, zlib.error, ...): for the
    # reader all of it says the same, that this file is damaged.
    except Exception as error:
        cause = " ".join(str(error).split()) or type(error).__name__
        raise ImageError(
            f"{where}: the picture is damaged or of an unknown kind ({cause}); "
            f"save it again as {_FORMATS}"
        ) from error


def _name(source: object) -> str:
    match source:
        case bytes():
            return "the given bytes"
        case Image.Image():
            return "the given picture"
        case str() | Path():
            return str(source) or "the given empty path"
    raise ImageError(
        f"cannot read a picture from {type(source).__name__}; "
        "expected a path, the bytes of a file, or a PIL picture"
    )


def _opened(source: str | Path | bytes) -> IO[bytes]:
    if isinstance(source, bytes):
        return BytesIO(source)
    if Path(source).is_dir():  # Windows calls opening a folder a PermissionError
        raise IsADirectoryError
    return Path(source).open("rb")


def _converted(picture: Image.Image, where: str) -> Image.Image:
    return _rgb(_upright(_loaded(picture, where)), where)


def _loaded(picture: Image.Image, where: str) -> Image.Image:
    if picture.format in _STARTS_PROGRAMS:
        raise ImageError(f"{where}: {picture.format} is not read; save it as {_FORMATS}")
    # Pillow only warns between once and twice its limit.
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and picture.width * picture.height > limit:
        raise _too_large(where)
    if not picture.width * picture.height:
        raise ImageError(f"{where}: the picture has no pixels ({picture.width} x {picture.height})")
    picture.load()
    return picture


def _too_large(where: str) -> ImageError:
    return ImageError(
        f"{where}: the picture has more than {Image.MAX_IMAGE_PIXELS} pixels; make it smaller, or "
        "raise PIL.Image.MAX_IMAGE_PIXELS if you trust the file"
    )


def _upright(picture: Image.Image) -> Image.Image:
    # Not ImageOps.exif_transpose: it writes the other EXIF fields anew and fails on odd ones.
    turn = _UPRIGHT.get(picture.getexif().get(_ORIENTATION_TAG, 1))
    return picture if turn is None else picture.transpose(turn)


def _rgb(picture: Image.Image, where: str) -> Image.Image:
    if picture.mode == "F":
        raise ImageError(
            f"{where}: its pixels are floats, and no file says which is black and which is white; "
            "save it with 8 or 16 bits a channel"
        )
    if picture.mode.startswith("I"):
        picture = _eight_bits(picture, where)
    rgb = _on_white(picture) if picture.has_transparency_data else picture.convert("RGB")
    rgb.info.clear()  # or a second reading would turn it by its EXIF once more
    return rgb


def _eight_bits(picture: Image.Image, where: str) -> Image.Image:
    deep = np.asarray(picture)
    if deep.min() < 0 or deep.max() > 65535:
        raise ImageError(
            f"{where}: its pixels run from {deep.min()} to {deep.max()}, expected 0 to 65535; "
            "save it with 8 or 16 bits a channel"
        )
    return Image.fromarray(np.rint(deep * (255 / 65535)).astype(np.uint8))


def _on_white(picture: Image.Image) -> Image.Image:
    if picture.mode == "La":  # has no direct way to RGBA
        picture = picture.convert("LA")
    white = Image.new("RGBA", picture.size, "white")
    return Image.alpha_composite(white, picture.convert("RGBA")).convert("RGB")
