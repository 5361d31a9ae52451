"""The inputs of an explainer: images or arrays, prepared for the model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from PIL import Image

from onnxcam.arrays import Floats, cast_saturating
from onnxcam.errors import ImageError
from onnxcam.explain.explanation import ExplainedImage
from onnxcam.image.preprocess import PreparedImage, Preprocessing, prepare
from onnxcam.image.read import read
from onnxcam.image.read_array import NOTICE, file_of, key_of, read_array
from onnxcam.regular_files import digest_file
from onnxcam.specs import ImageInput

ImageSource: TypeAlias = str | Path | bytes | Image.Image | Floats


class PreparedInput(NamedTuple):
    """An image to draw on, its input tensor (1, ...), and whether it was preprocessed here: arrays are
    preprocessed by the user.
    """

    image: ExplainedImage
    tensor: Floats
    is_preprocessed: bool
    pixels: int = 0  # of the original in memory


def as_sources(images: ImageSource | Iterable[ImageSource]) -> Iterable[ImageSource]:
    """The sources of images; a single one is a list of one."""
    if isinstance(images, (str, Path, bytes, Image.Image, np.ndarray)):
        return [images]
    return images if isinstance(images, Iterable) else [images]


def input_loaders(
    sources: Iterable[ImageSource], preprocessing: Preprocessing, image: ImageInput
) -> Iterator[tuple[ImageSource, Callable[[], PreparedInput]]]:
    """For each image its source, and a function that prepares it, or raises ImageError for a source that is not
    an image, and for an array that does not fit. An array (N, ...) has N images.
    """
    number = 0
    for source in sources:
        for load in _loaders(source, number, preprocessing, image):
            yield source, load
            number += 1


def _loaders(
    source: ImageSource, number: int, preprocessing: Preprocessing, image: ImageInput
) -> list[Callable[[], PreparedInput]]:
    if not isinstance(source, np.ndarray):
        return [partial(prepare_source, source, number, preprocessing, image)]
    try:
        batch = _as_batch(source, image)
    except ImageError as error:
        return [partial(_fail, error)]
    return [partial(_prepare_array, row, number + n, image) for n, row in enumerate(batch)]


def _fail(error: ImageError) -> PreparedInput:
    raise error


def prepare_source(
    source: Any, number: int, preprocessing: Preprocessing, image: ImageInput
) -> PreparedInput:
    """The image in a source that is not an array; its name is the file's, or has the `number`. A file may
    hold an array, which is preprocessed already.
    """
    if isinstance(source, (str, Path)) and (in_file := prepare_array_file(source, image)):
        return in_file
    prepared = prepare(read(source), preprocessing, image)
    tensor: Floats = np.asarray(prepared.tensor)
    pixels = prepared.image.width * prepared.image.height
    return PreparedInput(
        _file_image(source, prepared, number), tensor, is_preprocessed=True, pixels=pixels
    )


def prepare_array_file(source: str | Path, image: ImageInput) -> PreparedInput | None:
    """The one image in a file of arrays; None for a file that is no such one."""
    if (array := read_array(source, image)) is None:
        return None
    path, key = file_of(source), key_of(source)
    batch = _as_batch(array, image, f"{source}: ")
    if len(batch) != 1:
        raise ImageError(
            f"{source}: holds {len(batch)} images; write a file for each of them, or explain them in Python"
        )
    drawn = _array_image(batch[0], image, 0)
    name = f"{path.stem}-{key}" if key else path.stem
    explained = replace(drawn, name=name, source=str(source), sha256=_digest(path), notice=NOTICE)
    return PreparedInput(explained, batch, is_preprocessed=False, pixels=batch[0].size)


def _prepare_array(tensor: Floats, number: int, image: ImageInput) -> PreparedInput:
    return PreparedInput(_array_image(tensor, image, number), tensor[None], is_preprocessed=False)


def _as_batch(array: Any, image: ImageInput, prefix: str = "") -> Floats:
    """Images (N, ...) in the dtype of the model; a gray image may be (H, W). ImageError if they do not fit."""
    batch = array[None] if array.ndim == 3 else array
    if array.ndim == 2 and image.channels in (None, 1):
        batch = array[None, None] if image.layout == "NCHW" else array[None, ..., None]
    sizes = {"C": image.channels, "H": image.height, "W": image.width}
    expected = [sizes[axis] for axis in image.layout[1:]]
    fits = batch.ndim == 4 and all(
        size in (None, dim) for size, dim in zip(expected, batch.shape[1:], strict=True)
    )
    if not fits or not batch.size or batch.dtype.kind not in "biuf":
        shape = ", ".join(str(sizes[axis] or axis) for axis in image.layout[1:])
        raise ImageError(
            f"{prefix}the array has shape {array.shape} and dtype {array.dtype}, but the model's input "
            f"{image.name!r} expects preprocessed numbers of shape (N, {shape})"
        )
    with np.errstate(over="ignore"):
        cast: Any = cast_saturating(batch, image.dtype) if np.isfinite(batch).all() else batch
    if not np.isfinite(cast).all():
        raise ImageError(
            f"{prefix}the array for {image.name!r} holds NaN, infinite or far too large values"
        )
    return cast


def _array_image(tensor: Floats, image: ImageInput, number: int) -> ExplainedImage:
    """An image to draw on, for an array."""
    height, width = image.size_of(tensor[None])
    box = (0.0, 0.0, float(width), float(height))
    return ExplainedImage(f"array-{number}", lambda: _draw_array(tensor, image), box)


def _draw_array(tensor: Floats, image: ImageInput) -> Image.Image:
    """An image that scales the array's range to 0 to 255: in color for three channels, else the gray of their
    mean.
    """
    pixels = np.moveaxis(tensor, 0, -1) if image.layout == "NCHW" else tensor
    pixels = pixels.astype(np.float64)
    pixels = pixels if pixels.shape[2] == 3 else pixels.mean(axis=2)
    low, high = float(pixels.min()), float(pixels.max())
    levels = (255 * (pixels - low) / ((high - low) or 1.0)).astype(np.uint8)
    return Image.fromarray(levels).convert("RGB")


def _file_image(source: Any, prepared: PreparedImage, number: int) -> ExplainedImage:
    path = Path(source) if isinstance(source, (str, Path)) else None
    name = path.stem if path else f"image-{number}"
    return ExplainedImage(
        name,
        lambda: prepared.image,
        prepared.box,
        str(path) if path else None,
        _digest(path) if path else None,
    )


def _digest(path: Path) -> str | None:
    """The digest of a file that was just read; None if it is gone."""
    try:
        return digest_file(path)
    except OSError:
        return None
