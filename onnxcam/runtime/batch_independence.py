"""Whether images give the same results together as alone, tried with two images that differ in contrast."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from onnxcam.arrays import Array
from onnxcam.errors import RunError
from onnxcam.runtime.session import Session

TOLERANCE = 1e-3  # of float32: kernels round by the size of a batch, up to 1e-4 after many layers
# half precision: this many machine epsilons, but no larger fraction
ROUNDINGS, MAX_TOLERANCE = 32, 0.05


def contrasting_images(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """(2, *shape): noise around 0, and noise around 8 that is sixteen times as strong, so that a batch of both
    has different statistics than either. Integers stay within 0 to 127, which all of their types hold.
    """
    generator = np.random.Generator(np.random.SFC64(0))
    noise = generator.standard_normal((2, *shape), dtype=np.float32)
    if dtype.kind == "f":
        scale, shift = np.array([[1, 16], [0, 8]], np.float32)
    else:
        scale, shift = np.array([[32, 8], [64, 24]], np.float32)
    axes = (slice(None), *[None] * len(shape))
    pair = noise * scale[axes] + shift[axes]
    return (pair if dtype.kind == "f" else np.clip(pair, 0, 127)).astype(dtype)


def are_close(actual: Array, expected: Array, tolerance: float, floor: float = 0.0) -> bool:
    """Whether the root mean square of the difference is within `tolerance` times that of the expected values,
    or below `floor`. Of values that are not finite only the positions are compared.
    """
    if actual.shape != expected.shape:
        return False
    if expected.dtype.kind not in "fiub":  # text
        return np.array_equal(actual, expected)
    a, b = (np.asarray(array, np.float64) for array in (actual, expected))
    finite = np.isfinite(b)
    if not np.array_equal(np.isfinite(a), finite):
        return False
    return root_mean_square(a[finite] - b[finite]) <= max(
        tolerance * root_mean_square(b[finite]), floor
    )


def root_mean_square(array: Any) -> float:
    """In float64; 0 for an empty array."""
    return float(np.sqrt(np.mean(np.square(array, dtype=np.float64)))) if array.size else 0.0


def tolerance_of(arrays: Sequence[Array]) -> float:
    """How much two runs of a model may differ, by the coarsest type among its outputs."""
    dtypes: list[Any] = [array.dtype for array in arrays if array.dtype.kind == "f"]
    steps = [float(np.finfo(dtype).eps) for dtype in dtypes]
    return min(MAX_TOLERANCE, max([TOLERANCE, *(ROUNDINGS * step for step in steps)]))


def samples_are_independent(
    single: Session, free: Session, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]
) -> bool:
    """Whether the dynamic batch gives two images what the original model gives each of them alone."""
    pair = contrasting_images(shape[1:], dtype)
    try:
        batch_outputs = free.run(free.outputs, {name: pair})
        single_outputs = [single.run(free.outputs, {name: image[None]}) for image in pair]
    except RunError:
        return False
    tolerance = tolerance_of(batch_outputs)
    return all(
        batched.ndim > 0
        and len(batched) == 2
        and are_close(batched[index : index + 1], expected, tolerance)
        for index, outputs in enumerate(single_outputs)
        for batched, expected in zip(batch_outputs, outputs, strict=True)
    )
