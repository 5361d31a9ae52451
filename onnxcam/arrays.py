"""Arrays by name and shape: what the annotations of this package mean.

N pictures (or noisy copies), C channels, H x W pixels of the model's input, h x w cells of a layer.
"""

from __future__ import annotations

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


def cast_saturating(values: Floats, dtype: np.dtype[Any]) -> Array:
    """The values in a model's dtype: rounded and saturated if it is an integer type."""
    if dtype.kind not in "iu":
        return values.astype(dtype)
    limits = np.iinfo(dtype)
    return np.clip(np.rint(values), limits.min, limits.max).astype(dtype)
