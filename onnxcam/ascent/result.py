"""The files of a result: a sheet, an image each, the tensors, and a manifest with their digests."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from onnxcam.arrays import Array
from onnxcam.digests import digest_bytes
from onnxcam.explain.result_files import SCHEMA, require_writable, write_files
from onnxcam.image.png import encode_png

LONGEST_PART = 40  # letters
DIGITS = 8  # of the digest of a part that is longer


def file_stem(*parts: str) -> str:
    """The beginning of the names of a result's files."""
    words = (re.sub(r"[^\w+-]+", "-", part).strip("-") for part in parts)
    return ".".join(_shorten(word) for word in words if word)


def _shorten(word: str) -> str:
    """The word; a long one is cut, with a digest of all of it, so that different words stay different."""
    if len(word) <= LONGEST_PART:
        return word
    digest = digest_bytes(word.encode())[:DIGITS]
    return f"{word[: LONGEST_PART - DIGITS - 1]}-{digest}"


def save_result(
    folder: Path,
    stem: str,
    sheet: Image.Image,
    images: Sequence[Image.Image],
    arrays: Mapping[str, Array],
    manifest: Mapping[str, Any],
    *,
    overwrite: bool,
) -> Path:
    """Write STEM.png with all images, STEM.1.png and so on with one, STEM.npz, and STEM.json with digests;
    returns the first. OutputError if that fails, or for files that onnxcam did not write.
    """
    main = folder / f"{stem}.png"
    numbered = {folder / f"{stem}.{n}.png": image for n, image in enumerate(images, 1)}
    tensors, described = folder / f"{stem}.npz", folder / f"{stem}.json"
    files = {str(path): path for path in (main, *numbered, tensors)}
    require_writable({**files, "manifest": described}, overwrite=overwrite)
    contents = {main: encode_png(sheet)} | {p: encode_png(i) for p, i in numbered.items()}
    write_files({**contents, tensors: _encode(arrays)}, described, {"schema": SCHEMA, **manifest})
    return main


def _encode(arrays: Mapping[str, Array]) -> bytes:
    buffer = BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()
