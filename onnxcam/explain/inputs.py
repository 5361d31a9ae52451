"""The inputs of an explainer: images or arrays, prepared for the model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from PIL import Image

from onnxcam.arrays import Floats, cast_saturating
from onnxcam.errors import ImageError
from onnxcam.explain.explanation import ExplainedImage
from onnxcam.image.preprocess import PreparedImage, Preprocessing, prepare
from onnxcam.image.read import read
from onnxcam.specs import ImageInput

ImageSource: TypeAlias = str | Path | bytes | Image.Image | Floats


def load_inputs(
    images: ImageSource | Sequence[ImageSource], preprocessing: Preprocessing, image: ImageInput
) -> tuple[list[ExplainedImage], list[Floats], bool]:
    """The images to draw on, the input tensors (1, ...), which all have the same size, and whether any image
    was preprocessed here (arrays are preprocessed by the user).

    Raises ImageError for a source that is not an image, an array that does not fit, and sizes that differ.
    """
    explained: list[ExplainedImage] = []
    tensors: list[Floats] = []
    sources = _as_list(images)
    for source in sources:
        if isinstance(source, np.ndarray):
            for tensor in _as_batch(source, image):
                explained.append(_array_image(tensor, image, len(explained)))
                tensors.append(tensor[None])
        else:
            prepared = prepare(read(source), preprocessing, image)
            explained.append(_file_image(source, prepared, len(explained)))
            tensors.append(np.asarray(prepared.tensor))
    _require_one_size(tensors, image)
    return explained, tensors, not all(isinstance(source, np.ndarray) for source in sources)


def _require_one_size(tensors: list[Floats], image: ImageInput) -> None:
    if not tensors:
        raise ImageError("there are no images to explain; pass at least one")
    sizes = sorted({image.size_of(tensor) for tensor in tensors})
    if len(sizes) > 1:
        height, width = sizes[1]
        raise ImageError(
            f"the images have {len(sizes)} sizes, one of them {height} x {width}; explain images of one size "
            "at a time"
        )


def _as_list(images: ImageSource | Sequence[ImageSource]) -> list[ImageSource]:
    if isinstance(images, (str, Path, bytes, Image.Image, np.ndarray)):
        return [images]
    return list(images) if isinstance(images, Iterable) else [images]


def _as_batch(array: Floats, image: ImageInput) -> Floats:
    batch = array[None] if array.ndim == 3 else array
    sizes = {"C": image.channels, "H": image.height, "W": image.width}
    expected = [sizes[axis] for axis in image.layout[1:]]
    fits = batch.ndim == 4 and all(
        size in (None, dim) for size, dim in zip(expected, batch.shape[1:], strict=True)
    )
    if not fits or not batch.size or batch.dtype.kind not in "biuf":
        shape = ", ".join(str(sizes[axis] or axis) for axis in image.layout[1:])
        raise ImageError(
            f"the array has shape {array.shape} and dtype {array.dtype}, but the model's input "
            f"{image.name!r} expects preprocessed numbers of shape (N, {shape})"
        )
    with np.errstate(over="ignore"):
        cast: Any = cast_saturating(batch, image.dtype) if np.isfinite(batch).all() else batch
    if not np.isfinite(cast).all():
        raise ImageError(
            f"the array for {image.name!r} holds NaN, infinite or far too large values"
        )
    return cast


def _array_image(tensor: Floats, image: ImageInput, number: int) -> ExplainedImage:
    """An image to draw on, for an array."""
    height, width = image.size_of(tensor[None])
    box = (0.0, 0.0, float(width), float(height))
    return ExplainedImage(f"array-{number}", lambda: _draw_array(tensor, image), box)


def _draw_array(tensor: Floats, image: ImageInput) -> Image.Image:
    """An image whose channels scale the array's range to 0 to 255."""
    pixels = np.moveaxis(tensor, 0, -1) if image.layout == "NCHW" else tensor
    pixels = pixels.astype(np.float64)
    low, high = float(pixels.min()), float(pixels.max())
    levels = (255 * (pixels - low) / ((high - low) or 1.0)).astype(np.uint8)
    return Image.fromarray(levels if levels.shape[2] == 3 else levels[:, :, 0]).convert("RGB")


def _file_image(source: Any, prepared: PreparedImage, number: int) -> ExplainedImage:
    path = Path(source) if isinstance(source, (str, Path)) else None
    name = path.stem if path else f"image-{number}"
    return ExplainedImage(name, lambda: prepared.image, prepared.box, str(path) if path else None)
