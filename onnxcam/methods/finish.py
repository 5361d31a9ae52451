"""From a layer's map to one at the size of the picture, and from several layers to one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from onnxcam.arrays import Floats, Saliency


def interpolation(size: int, wanted: int) -> Floats:
    """The matrix (wanted, size) of linear interpolation between cell centres, ends held."""
    centre = np.clip((np.arange(wanted) + 0.5) * size / wanted - 0.5, 0, size - 1)
    return np.maximum(0.0, 1.0 - np.abs(centre[:, None] - np.arange(size)))


def resized(maps: Saliency, height: int, width: int) -> Saliency:
    """(N, h, w) -> (N, height, width), bilinear."""
    rows, columns = interpolation(maps.shape[1], height), interpolation(maps.shape[2], width)
    return np.asarray(rows @ maps @ columns.T)


def scaled(maps: Saliency) -> Saliency:
    """Each map divided by its maximum; an empty one stays 0."""
    highest = np.max(maps, axis=(1, 2), keepdims=True)
    return np.where(highest > 0, maps / np.where(highest > 0, highest, 1.0), 0.0)


def fused(maps: Sequence[Saliency], how: str) -> Saliency:
    """Several layers' maps as one: each scaled, brought to the finest grid, then their max or mean."""
    height = max(each.shape[1] for each in maps)
    width = max(each.shape[2] for each in maps)
    stack = np.stack([resized(scaled(each), height, width) for each in maps])
    return np.max(stack, axis=0) if how == "max" else np.mean(stack, axis=0)


def empty(maps: Saliency) -> NDArray[np.bool_]:
    """(N,) bool: which maps carry no evidence, no cell above 0."""
    return np.asarray(~(np.max(maps, axis=(1, 2)) > 0))
