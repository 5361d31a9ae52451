"""Arrays by name and shape: what the annotations of this package mean.

N pictures (or noisy copies), C channels, H x W pixels of the model's input, h x w cells of a layer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.generic]  # any shape, any dtype
Floats: TypeAlias = NDArray[np.floating]  # any shape
Images: TypeAlias = NDArray[np.floating]  # (N, C, H, W) or (N, H, W, C): what the model is fed
Maps: TypeAlias = NDArray[np.floating]  # (N, C, h, w): an activation or a gradient
Saliency: TypeAlias = NDArray[np.floating]  # (N, h, w) or (N, H, W): one heat map a picture
Scores: TypeAlias = NDArray[np.floating]  # (N, classes)
Pixels: TypeAlias = NDArray[np.uint8]  # (H, W, 3) RGB
Dim: TypeAlias = int | str | None  # a size, or its name (equal names are equal sizes), or unknown
Shape: TypeAlias = tuple[Dim, ...]


@dataclass(frozen=True)
class ImageInput:
    """What a model's image input looks like: the contract between the graph and the preprocessing.

    `height` and `width` are None where the model takes any size; `batch` is None where it takes any
    number of pictures at once. `layout` is "NCHW" or "NHWC".
    """

    name: str
    layout: str
    channels: int | None
    height: int | None
    width: int | None
    batch: int | None
    dtype: np.dtype[Any]

    @property
    def shape(self) -> Shape:
        """Of the input, in its layout; the batch is unknown, whatever was tried of it."""
        sizes = (self.height, self.width)
        return (
            (None, self.channels, *sizes)
            if self.layout == "NCHW"
            else (None, *sizes, self.channels)
        )

    def size_of(self, tensor: Floats) -> tuple[int, int]:
        """(H, W) of pictures (N, ...) in the layout."""
        shape = tensor.shape[2:] if self.layout == "NCHW" else tensor.shape[1:3]
        return int(shape[0]), int(shape[1])


def typed(values: Floats, dtype: np.dtype[Any]) -> Array:
    """The values in a model's dtype: rounded and saturated if it is an integer type."""
    if dtype.kind not in "iu":
        return values.astype(dtype)
    limits = np.iinfo(dtype)
    return np.clip(np.rint(values), limits.min, limits.max).astype(dtype)
