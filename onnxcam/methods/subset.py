"""The map of chosen feature maps, and of chosen neurons (Omeiza et al. 2019, section 3.3)."""

from __future__ import annotations

import operator
import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from onnxcam.arrays import Floats
from onnxcam.errors import SettingError

Region: TypeAlias = str | tuple[slice, slice] | NDArray[np.bool_]  # "y0:y1,x0:x1" or a mask
SPAN = r"\s*(-?\d{1,18})?\s*:\s*(-?\d{1,18})?\s*(?::\s*(\d{1,18})\s*)?"


def chosen_channels(spec: str | Sequence[int] | None, channels: int) -> list[int] | None:
    """Feature maps by number: [3, 7] or "3,7,10-20" (both ends count). SettingError outside the layer."""
    if spec is None:
        return None
    numbers = _numbers(spec, channels) if isinstance(spec, str) else _integers(spec)
    wrong = [each for each in numbers if not 0 <= each < channels]
    if wrong or not numbers:
        what = f"channel {wrong[0]}" if wrong else "no channel"
        raise SettingError(
            f"channels {spec!r}: {what}; the layer has {channels}, 0 to {channels - 1}"
        )
    return sorted(set(numbers))


def _integers(spec: Sequence[int]) -> list[int]:
    try:
        return [operator.index(each) for each in spec]
    except TypeError:
        raise SettingError(f"channels {spec!r}: expected whole numbers, or 3,7,10-20") from None


def _numbers(spec: str, channels: int) -> list[int]:
    found: list[int] = []
    for part in spec.split(","):
        ends = re.fullmatch(r"\s*(\d{1,18})(?:\s*-\s*(\d{1,18}))?\s*", part)
        if not ends:
            raise SettingError(f"channels {spec!r}: expected numbers and ranges, like 3,7,10-20")
        first, last = int(ends[1]), int(ends[2] or ends[1])
        if last < first:
            raise SettingError(f"channels {spec!r}: the range {part.strip()} runs backwards")
        found.extend((first, *range(first + 1, min(last, channels) + 1)))
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
        mask = (region != 0).astype(np.float64)
    else:
        mask = np.zeros(grid)
        mask[_fitting(_slices(region), grid)] = 1.0
    if not mask.any():
        raise SettingError(
            f"region {region_to_json(region)!r}: no cell of the layer, which is {grid[0]} x {grid[1]}"
        )
    return mask


def region_to_json(region: Region | None) -> Any:
    """A region as JSON can keep it: None, "y0:y1,x0:x1", or a mask as nested lists."""
    if isinstance(region, np.ndarray):
        return (region != 0).tolist()
    return region if region is None or isinstance(region, str) else ",".join(map(_span, region))


def _span(part: slice) -> str:
    ends = [part.start, part.stop, *([] if part.step is None else [part.step])]
    return ":".join("" if each is None else str(each) for each in ends)


def _slices(region: str | tuple[slice, slice]) -> tuple[slice, slice]:
    if isinstance(region, str) and (found := re.fullmatch(f"{SPAN},{SPAN}", region)):
        y0, y1, y, x0, x1, x = (int(each) if each else None for each in found.groups())
        return slice(y0, y1, y or None), slice(x0, x1, x or None)
    if isinstance(region, tuple) and [type(each) for each in region] == [slice, slice]:
        return region
    raise SettingError(
        f"region {region!r}: expected y0:y1,x0:x1 in cells of the layer, two slices, or a mask"
    )


def _fitting(region: tuple[slice, slice], grid: tuple[int, int]) -> tuple[slice, slice]:
    """The region, if none of its ends lies outside the layer."""
    for part, size in zip(region, grid, strict=True):
        if any(abs(end) > size for end in (part.start, part.stop) if end is not None):
            raise SettingError(
                f"region {region_to_json(region)!r}: outside the layer, which is {grid[0]} x {grid[1]}"
            )
    return region


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
