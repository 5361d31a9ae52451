"""The types of arrays, named by what they hold, with their shapes.

N images (or noisy copies), C channels, H x W pixels of the model's input, h x w cells of a layer.
"""

from __future__ import annotations

from typing import Any, Protocol, TypeAlias, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.generic]  # any shape, any dtype
Floats: TypeAlias = NDArray[np.floating]  # any shape
Images: TypeAlias = NDArray[np.floating]  # (N, C, H, W) or (N, H, W, C): the model's input
Maps: TypeAlias = NDArray[np.floating]  # (N, C, h, w): an activation or a gradient
Saliency: TypeAlias = NDArray[np.floating]  # (N, h, w) or (N, H, W): one map per image
Scores: TypeAlias = NDArray[np.floating]  # (N, classes)
Quantities: TypeAlias = dict[str, Floats]  # what a formula takes, by the names of its parameters
Dim: TypeAlias = int | str | None  # a size, a name (equal names are equal sizes), or unknown
Shape: TypeAlias = tuple[Dim, ...]
FLOAT32 = np.dtype(np.float32)
Cast = TypeVar("Cast", covariant=True)


class Castable(Protocol[Cast]):
    """An array, or a `Value`, which writes the operations on it into a graph."""

    def astype(self, dtype: Any, /) -> Cast:
        """The same numbers in another dtype."""


def is_integer(dtype: np.dtype[Any] | int) -> bool:
    """Whether a dtype is an integer type. A number is an ONNX type that NumPy lacks; those are floats."""
    return isinstance(dtype, np.dtype) and dtype.kind in "iu"


def cast_saturating(values: Castable[Cast], dtype: np.dtype[Any] | int) -> Cast:
    """Convert floats to a model's dtype: rounded and saturated if it is an integer type."""
    if not isinstance(dtype, np.dtype) or not is_integer(dtype):
        return values.astype(dtype)
    limits, floats = np.iinfo(dtype), cast(Any, values)
    return np.clip(np.rint(floats), limits.min, limits.max).astype(dtype)
