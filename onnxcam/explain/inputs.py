"""What an explainer is given: pictures or arrays, made ready for the model."""

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
    """The pictures to draw on, the tensors (1, ...) of one size that the model is fed, and whether any of
    them was prepared here (arrays come prepared).

    Raises ImageError for what is not a picture, an array that does not fit, and sizes that differ.
    """
    pictures: list[ExplainedImage] = []
    tensors: list[Floats] = []
    sources = _listed(images)
    for each in sources:
        if isinstance(each, np.ndarray):
            for tensor in _as_batch(each, image):
                pictures.append(_drawn(tensor, image, len(pictures)))
                tensors.append(tensor[None])
        else:
            prepared = prepare(read(each), preprocessing, image)
            pictures.append(_picture(each, prepared, len(pictures)))
            tensors.append(np.asarray(prepared.tensor))
    _check(tensors, image)
    return pictures, tensors, not all(isinstance(source, np.ndarray) for source in sources)


def _check(tensors: list[Floats], image: ImageInput) -> None:
    if not tensors:
        raise ImageError("no picture was given")
    if others := sorted({image.size_of(each) for each in tensors})[1:]:
        raise ImageError(
            f"pictures of {len(others) + 1} sizes, one of them {others[0][0]} x {others[0][1]}; explain "
            "those of one size at a time"
        )


def _listed(images: ImageSource | Sequence[ImageSource]) -> list[ImageSource]:
    if isinstance(images, (str, Path, bytes, Image.Image, np.ndarray)):
        return [images]
    return list(images) if isinstance(images, Iterable) else [images]


def _as_batch(array: Floats, image: ImageInput) -> Floats:
    batch = array[None] if array.ndim == 3 else array
    sizes = {"C": image.channels, "H": image.height, "W": image.width}
    taken = [sizes[axis] for axis in image.layout[1:]]
    fits = batch.ndim == 4 and all(map(_agree, taken, batch.shape[1:]))
    if not fits or not batch.size or batch.dtype.kind not in "biuf":
        wanted = ", ".join(str(sizes[axis] or axis) for axis in image.layout[1:])
        raise ImageError(
            f"an array of shape {array.shape} and type {array.dtype}; the model's input "
            f"{image.name!r} takes numbers of shape (N, {wanted}), preprocessed"
        )
    with np.errstate(over="ignore"):
        fitted: Any = cast_saturating(batch, image.dtype) if np.isfinite(batch).all() else batch
    if not np.isfinite(fitted).all():
        raise ImageError(
            f"the array for {image.name!r} holds NaN, infinite or far too large values"
        )
    return fitted


def _agree(taken: int | None, given: int) -> bool:
    return taken is None or taken == given


def _drawn(tensor: Floats, image: ImageInput, number: int) -> ExplainedImage:
    """A picture to draw on, for a tensor that came without one."""
    height, width = image.size_of(tensor[None])
    box = (0.0, 0.0, float(width), float(height))
    return ExplainedImage(f"array-{number}", lambda: _shown(tensor, image), box)


def _shown(tensor: Floats, image: ImageInput) -> Image.Image:
    """The tensor's range as grey levels of each channel."""
    pixels = np.moveaxis(tensor, 0, -1) if image.layout == "NCHW" else tensor
    pixels = pixels.astype(np.float64)
    low, high = float(pixels.min()), float(pixels.max())
    levels = (255 * (pixels - low) / ((high - low) or 1.0)).astype(np.uint8)
    return Image.fromarray(levels if levels.shape[2] == 3 else levels[:, :, 0]).convert("RGB")


def _picture(source: Any, prepared: PreparedImage, number: int) -> ExplainedImage:
    path = Path(source) if isinstance(source, (str, Path)) else None
    name = path.stem if path else f"picture-{number}"
    return ExplainedImage(name, lambda: prepared.image, prepared.box, str(path) if path else None)
