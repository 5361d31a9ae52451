"""The map of chosen feature maps, and of chosen neurons (Omeiza et al. 2019, section 3.3)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from onnxcam.arrays import Floats
from onnxcam.errors import SettingError

Region: TypeAlias = str | tuple[slice, slice] | NDArray[np.bool_]  # "y0:y1,x0:x1" or a mask


def chosen_channels(spec: str | Sequence[int] | None, channels: int) -> list[int] | None:
    """Feature maps by number: [3, 7] or "3,7,10-20" (both ends count). SettingError outside the layer."""
    if spec is None:
        return None
    numbers = _numbers(spec) if isinstance(spec, str) else [int(each) for each in spec]
    wrong = [each for each in numbers if not 0 <= each < channels]
    if wrong or not numbers:
        what = f"channel {wrong[0]}" if wrong else "no channel"
        raise SettingError(
            f"channels {spec!r}: {what}; the layer has {channels}, 0 to {channels - 1}"
        )
    return sorted(set(numbers))


def _numbers(spec: str) -> list[int]:
    found: list[int] = []
    for part in spec.split(","):
        ends = re.fullmatch(r"\s*(\d+)(?:\s*-\s*(\d+))?\s*", part)
        if not ends:
            raise SettingError(f"channels {spec!r}: expected numbers and ranges, like 3,7,10-20")
        found.extend(range(int(ends[1]), int(ends[2] or ends[1]) + 1))
    return found


def region_mask(region: Region | None, channels: int, grid: tuple[int, int]) -> Floats | None:
    """Which neurons count, 0 or 1, broadcastable to (C, h, w): from "y0:y1,x0:x1" in the layer's cells,
    a pair of slices, or a mask (h, w) or (C, h, w). SettingError where it does not fit, or is empty.
    """
    if region is None:
        return None
    if isinstance(region, np.ndarray):
        if region.shape not in (grid, (channels, *grid)):
            raise SettingError(
                f"region: a mask of shape {region.shape}; the layer is {channels} x {grid[0]} x {grid[1]}"
            )
        mask = region.astype(np.float64)
    else:
        rows, columns = _slices(region) if isinstance(region, str) else region
        mask = np.zeros(grid)
        mask[rows, columns] = 1.0
    if not mask.any():
        raise SettingError(
            f"region {region!r}: no cell of the layer, which is {grid[0]} x {grid[1]}"
        )
    return mask


def _slices(region: str) -> tuple[slice, slice]:
    found = re.fullmatch(r"\s*(\d*):(\d*)\s*,\s*(\d*):(\d*)\s*", region)
    if not found:
        raise SettingError(f"region {region!r}: expected y0:y1,x0:x1 in cells of the layer")
    y0, y1, x0, x1 = (int(each) if each else None for each in found.groups())
    return slice(y0, y1), slice(x0, x1)


def subset(
    probed: Mapping[str, Floats], channels: list[int] | None, mask: Floats | None
) -> dict[str, Floats]:
    """What was probed, with only the chosen feature maps, and zeros for the neurons that do not count:
    they add nothing to the weights, to the sums over a map, or to the map.
    """
    found = dict(probed)
    if mask is not None:
        found = {name: each * mask if each.ndim == 4 else each for name, each in found.items()}
    if channels is not None:
        found = {name: each[:, channels] for name, each in found.items()}
    return found
