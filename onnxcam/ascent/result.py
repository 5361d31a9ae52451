"""The files of a result: a sheet, an image each, the tensors, and a manifest with their digests."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from onnxcam.arrays import Array, Floats
from onnxcam.ascent.pixel_range import to_images
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


class Result(Protocol):
    """Images that were made."""

    @property
    def x(self) -> Floats:
        """(N, C, H, W), gray or RGB, where -1 is black and 1 is white."""

    @property
    def notices(self) -> tuple[str, ...]:
        """What a user should know."""

    @property
    def stem(self) -> str:
        """The beginning of the names of the files."""

    @property
    def provenance(self) -> Mapping[str, Any]:
        """What is needed to make the images again, as JSON values."""

    def sheet(self) -> Image.Image:
        """All images."""

    def manifest(self) -> dict[str, Any]:
        """What the images show, as JSON values."""

    def arrays(self) -> dict[str, Array]:
        """The tensors and numbers of the images, by their names in the file."""


def describe(
    result: Result, image: Mapping[str, Any], kind: str, rows: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """The manifest of a result: of what image, and a row for each image that was made, under the key `kind`."""
    shared = {"notices": list(result.notices), **result.provenance}
    return {"image": dict(image), kind: [*rows], **shared}


def save_result(result: Result, folder: str | Path, *, overwrite: bool) -> Path:
    """Write STEM.png with all images, STEM.1.png and so on with one, STEM.npz, and STEM.json with digests;
    returns the first. OutputError if that fails, or for files that onnxcam did not write.
    """
    folder, stem = Path(folder), result.stem
    main = folder / f"{stem}.png"
    numbered = {folder / f"{stem}.{n}.png": image for n, image in enumerate(to_images(result.x), 1)}
    tensors, described = folder / f"{stem}.npz", folder / f"{stem}.json"
    files = {str(path): path for path in (main, *numbered, tensors)}
    require_writable({**files, "manifest": described}, overwrite=overwrite)
    contents = {main: encode_png(result.sheet())}
    contents |= {path: encode_png(image) for path, image in numbered.items()}
    contents[tensors] = _encode(result.arrays())
    write_files(contents, described, {"schema": SCHEMA, **result.manifest()})
    return main


def _encode(arrays: Mapping[str, Array]) -> bytes:
    buffer = BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()
