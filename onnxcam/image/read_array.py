"""Images that are arrays: .npy and .npz files, and TIFFs whose pages, floats or 16-bit integers are channels.

Their numbers are what the model gets: they are preprocessed already, and no image that people look at.
"""

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from onnxcam.arrays import Array
from onnxcam.errors import ImageError, first_line
from onnxcam.image.read import LARGEST_FILE, describe_failure, require_size
from onnxcam.regular_files import open_regular
from onnxcam.specs import ImageInput

SUFFIXES = frozenset({".npy", ".npz"})
NOTICE = (
    "files of arrays (.npy, .npz, and TIFFs with a page per channel, of floats, or of 16 bits for a model that "
    "takes them) are taken as preprocessed already: --preprocess and its settings do not change their numbers"
)
_MEMBER = re.compile(r"(?P<file>.+\.npz):(?P<key>[^/\\]+)", re.IGNORECASE)
_TIFF = frozenset({".tif", ".tiff"})
_COLORS = (None, 1, 3)  # channels for which an image of 8 bits can be prepared


def is_array_file(path: str | Path) -> bool:
    """Whether a name is that of a file of arrays, perhaps with the key of one: x.npy, x.npz, x.npz:key."""
    return file_of(path).suffix.lower() in SUFFIXES


def file_of(path: str | Path) -> Path:
    """The file that a path names: that of x.npz:key is x.npz."""
    member = _MEMBER.fullmatch(str(path))
    return Path(member["file"]) if member else Path(path)


def key_of(path: str | Path) -> str | None:
    """The key in x.npz:key."""
    member = _MEMBER.fullmatch(str(path))
    return member["key"] if member else None


def read_array(path: str | Path, takes: ImageInput) -> Array | None:
    """The array in a file, as it is stored or, for a TIFF, in the layout of the model; None for other images.

    ImageError for a file that cannot be read, and for one with several arrays of which none is named.
    """
    if is_array_file(path):
        return read_array_file(path)
    if file_of(path).suffix.lower() not in _TIFF:
        return None
    return _call(_read_tiff, path, takes)


def read_array_file(path: str | Path) -> Array:
    """The array in a .npy or .npz file. ImageError for a file that cannot be read, and for one with several
    arrays of which none is named.
    """
    is_archive = file_of(path).suffix.lower() == ".npz"
    array: Array = _call(_read_npz if is_archive else _read_npy, path)
    return array


def _call(reader: Callable[..., Any], path: str | Path, *arguments: Any) -> Any:
    """What a reader returns. ImageError for whatever it raises."""
    try:
        return reader(path, *arguments)
    except ImageError:
        raise
    except Exception as error:  # decoders raise all kinds of exceptions
        suffix = file_of(path).suffix.lower()
        raise ImageError(f"{path}: {_describe(error, suffix)}") from error


def _describe(error: Exception, suffix: str) -> str:
    """What an exception of the file system or of a decoder means, and what to do."""
    is_damaged = isinstance(error, (ValueError, EOFError, KeyError, zipfile.BadZipFile))
    if suffix in SUFFIXES and is_damaged:
        writer = "numpy.savez" if suffix == ".npz" else "numpy.save"
        return f"is damaged, or holds no array of numbers ({first_line(error)}); write it with {writer}"
    return describe_failure(error)


def _read_npy(path: str | Path) -> Array:
    with open_regular(path) as file:
        _require_room(path, os.fstat(file.fileno()).st_size)
        # mapped first: a header may ask for any amount of memory
        return np.array(np.load(path, mmap_mode="r", allow_pickle=False))


def _read_npz(path: str | Path) -> Array:
    with open_regular(file_of(path)) as file, zipfile.ZipFile(file) as archive:
        members = {name.removesuffix(".npy"): name for name in archive.namelist()}
        key = key_of(path)
        if key is None and len(members) != 1:
            listed = ", ".join(f"{path}:{name}" for name in [*members][:5]) or "none"
            raise ImageError(f"{path}: holds {len(members)} arrays; name one of them: {listed}")
        name = next(iter(members)) if key is None else key
        if name not in members:
            raise ImageError(f"{path}: holds no array {name!r}; its arrays: {', '.join(members)}")
        _require_room(path, archive.getinfo(members[name]).file_size)
        with archive.open(members[name]) as content:
            return _bounded_array(content, archive.getinfo(members[name]).file_size)


def _bounded_array(content: Any, size: int) -> Array:
    """The array in a stream of this many bytes. ValueError if its header asks for more of them."""
    stream = np.lib.format
    version = stream.read_magic(content)
    read_header = {(1, 0): stream.read_array_header_1_0}.get(version, stream.read_array_header_2_0)
    shape, is_fortran, dtype = read_header(content)
    count = int(np.prod(shape, dtype=np.float64))
    if dtype.hasobject or count * dtype.itemsize > size:
        raise ValueError("its header and its size do not fit, or it holds objects")
    array: Array = np.frombuffer(content.read(count * dtype.itemsize), dtype)
    return array.reshape(shape, order="F" if is_fortran else "C").copy()


def _require_room(path: object, size: int) -> None:
    if size > LARGEST_FILE:
        raise ImageError(
            f"{path}: the array has {size / 1e9:.2f} GB, more than the maximum of {LARGEST_FILE / 1e9:.2f} GB; "
            "make it smaller, or explain it in Python"
        )


def _read_tiff(path: str | Path, takes: ImageInput) -> Array | None:
    """The channels of a TIFF in the layout of the model; None for an image of colors or of 8-bit grays."""
    with open_regular(path) as file, Image.open(file) as image:
        pages = getattr(image, "n_frames", 1)
        if not _holds_channels(image, pages, takes):
            return None
        require_size(image, str(path), pages)
        channels = []
        for page in range(pages):
            image.seek(page)
            if len(image.getbands()) > 1:
                return None
            channels.append(np.asarray(image))
    if len({channel.shape for channel in channels}) > 1:
        raise ImageError(
            f"{path}: its {pages} pages differ in size, but the model takes one channel from each"
        )
    return np.stack(channels, axis=0 if takes.layout == "NCHW" else -1)


def _holds_channels(image: Image.Image, pages: int, takes: ImageInput) -> bool:
    """Whether the pages are the channels of the model, not an animation, and not a gray image of 8 bits."""
    if len(image.getbands()) > 1:
        return False
    if pages > 1:
        return takes.channels == pages or takes.channels not in _COLORS
    is_wide = image.mode == "F" or (
        image.mode[0] == "I" and takes.dtype.kind in "iu" and takes.dtype.itemsize > 1
    )
    return takes.channels in (None, 1) and is_wide
