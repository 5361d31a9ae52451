"""Resize a layer's map to the size of the image, and fuse the maps of several layers into one.

All of it also runs on Values, and is then written into a graph. Only sizes that are numbers can be resized.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from onnxcam.arrays import Floats, Saliency
from onnxcam.errors import ModelError


def interpolate_axis(array: Floats, axis: int, size: int) -> Floats:
    """Linear interpolation between the centers of an array's cells along an axis; beyond the outermost centers
    the values are constant. It is not a matrix product because the threads of a BLAS library keep spinning
    after one, and slow down what runs next.
    """
    cells = fixed_size(array, axis)
    centers = np.clip((np.arange(size) + 0.5) * cells / size - 0.5, 0, cells - 1)
    lower = np.minimum(centers.astype(np.intp), max(cells - 2, 0))
    upper = np.minimum(lower + 1, cells - 1)
    fraction = np.expand_dims(centers - lower, tuple(i for i in range(array.ndim) if i != axis))
    low, high = np.take(array, lower, axis), np.take(array, upper, axis)
    return low * (1 - fraction) + high * fraction


def fixed_size(array: Floats, axis: int) -> int:
    """The size of an axis. ModelError if the array is a Value whose size the graph leaves free."""
    size = array.shape[axis]
    if not isinstance(size, int):
        raise ModelError(
            f"a map is resized in the graph only if its size is fixed, and axis {axis} of {array!r} is not; "
            "export the model for images of one size"
        )
    return size


def resize_bilinear(maps: Saliency, height: int, width: int) -> Saliency:
    """(N, h, w) -> (N, height, width), bilinear."""
    return interpolate_axis(interpolate_axis(maps, 1, height), 2, width)


def join_channels(attributions: Floats, how: str) -> Saliency:
    """(N, C, H, W) -> (N, H, W): the "largest" magnitude of the channels, or their "sum"."""
    if how == "sum":
        return np.sum(attributions, axis=1)
    return np.max(np.abs(attributions), axis=1)


def divide_by_max(maps: Saliency) -> Saliency:
    """Each map divided by its maximum; an empty map stays 0."""
    highest = np.max(maps, axis=(1, 2), keepdims=True)
    return np.where(highest > 0, maps / np.where(highest > 0, highest, 1.0), 0.0)


def fuse_maps(layers: Sequence[Saliency], how: str) -> Saliency:
    """One map from those of several layers: the "max" or "mean" of all, each divided by its maximum and resized
    to the finest grid.
    """
    height, width = (max(fixed_size(maps, axis) for maps in layers) for axis in (1, 2))
    stack = np.stack([resize_bilinear(divide_by_max(maps), height, width) for maps in layers])
    return np.max(stack, axis=0) if how == "max" else np.mean(stack, axis=0)


def are_empty(maps: Saliency, *, signed: bool = False) -> NDArray[np.bool_]:
    """(N,) bool: which maps carry no evidence, that is, have no cell above 0 (signed: none but 0)."""
    evidence = np.abs(maps) if signed else maps
    return ~(np.max(evidence, axis=(1, 2)) > 0)
