"""From a layer's map to one at the size of the picture, and from several layers to one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from onnxcam.arrays import Floats, Saliency


def interpolate_axis(array: Floats, axis: int, wanted: int) -> Floats:
    """Linear interpolation between the centres of an array's cells along an axis, ends held. Not a product of
    matrices: a BLAS library's threads wait for more of them, and take the cores from what is run next.
    """
    size = array.shape[axis]
    centre = np.clip((np.arange(wanted) + 0.5) * size / wanted - 0.5, 0, size - 1)
    below = np.minimum(centre.astype(np.intp), max(size - 2, 0))
    share = np.expand_dims(centre - below, tuple(i for i in range(array.ndim) if i != axis))
    low, high = (np.take(array, each, axis) for each in (below, np.minimum(below + 1, size - 1)))
    return np.asarray(low * (1 - share) + high * share)


def resize_bilinear(maps: Saliency, height: int, width: int) -> Saliency:
    """(N, h, w) -> (N, height, width), bilinear."""
    return interpolate_axis(interpolate_axis(maps, 1, height), 2, width)


def divide_by_max(maps: Saliency) -> Saliency:
    """Each map divided by its maximum; an empty one stays 0."""
    highest = np.max(maps, axis=(1, 2), keepdims=True)
    return np.where(highest > 0, maps / np.where(highest > 0, highest, 1.0), 0.0)


def fuse_maps(maps: Sequence[Saliency], how: str) -> Saliency:
    """Several layers' maps as one: each scaled, brought to the finest grid, then their max or mean."""
    height = max(each.shape[1] for each in maps)
    width = max(each.shape[2] for each in maps)
    stack = np.stack([resize_bilinear(divide_by_max(each), height, width) for each in maps])
    return np.max(stack, axis=0) if how == "max" else np.mean(stack, axis=0)


def empty(maps: Saliency) -> NDArray[np.bool_]:
    """(N,) bool: which maps carry no evidence, no cell above 0."""
    return np.asarray(~(np.max(maps, axis=(1, 2)) > 0))
