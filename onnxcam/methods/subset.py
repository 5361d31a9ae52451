"""Maps of chosen feature maps and of chosen neurons (Omeiza et al. 2019, section 3.3)."""

from __future__ import annotations

import operator
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from onnxcam.arrays import Floats, Quantities
from onnxcam.errors import SettingError
from onnxcam.methods.quantities import QUANTITIES

Channels: TypeAlias = str | Sequence[int]  # [3, 7] or "3,7,10-20"
Region: TypeAlias = str | tuple[slice, slice] | NDArray[np.bool_]  # "y0:y1,x0:x1" or a mask
COUNTED = "counted"  # what a formula may take besides quantities, if its method has subsets
SPAN = r"\s*(-?\d{1,18})?\s*:\s*(-?\d{1,18})?\s*(?::\s*(\d{1,18})\s*)?"


class Subset(NamedTuple):
    """The feature maps and neurons of a layer that count; None for all."""

    channels: Channels | None
    region: Region | None

    def select(self, quantities: Quantities) -> Quantities:
        """The chosen feature maps, with zeros for the neurons that do not count, and `counted`, which is 1 for
        those that do. SettingError if the layer does not have them.
        """
        cells = cells_of(quantities)
        if not cells:
            return quantities
        shape = _, channels, height, width = next(iter(cells.values())).shape
        mask = region_mask(self.region, channels, (height, width))
        counted = {COUNTED: np.broadcast_to(1.0, shape)}
        return apply_subset(
            {**quantities, **counted}, select_channels(self.channels, channels), mask
        )

    def to_json(self) -> dict[str, Any]:
        """As values that JSON can hold."""
        numbers = self.channels
        if not (numbers is None or isinstance(numbers, str)):
            numbers = list(map(int, numbers))
        return {"channels": numbers, "region": region_to_json(self.region)}


def select_channels(spec: Channels | None, channels: int) -> list[int] | None:
    """Feature maps by number: [3, 7] or "3,7,10-20" (both ends included). SettingError if the layer does not
    have them.
    """
    if spec is None:
        return None
    numbers = _parse_numbers(spec, channels) if isinstance(spec, str) else _to_integers(spec)
    outside_numbers = [number for number in numbers if not 0 <= number < channels]
    if outside_numbers or not numbers:
        problem = (
            f"there is no channel {outside_numbers[0]}"
            if outside_numbers
            else "it selects no channel"
        )
        raise SettingError(
            f"channels {spec!r}: {problem}; the layer has channels 0 to {channels - 1}"
        )
    return sorted(set(numbers))


def _to_integers(spec: Sequence[int]) -> list[int]:
    try:
        return [operator.index(number) for number in spec]
    except TypeError:
        raise SettingError(
            f"channels {spec!r}: expected integers, or text like 3,7,10-20"
        ) from None


def _parse_numbers(spec: str, channels: int) -> list[int]:
    numbers: list[int] = []
    for word in spec.split(","):
        ends = re.fullmatch(r"\s*(\d{1,18})(?:\s*-\s*(\d{1,18}))?\s*", word)
        if not ends:
            raise SettingError(f"channels {spec!r}: expected numbers and ranges, like 3,7,10-20")
        first, last = int(ends[1]), int(ends[2] or ends[1])
        if last < first:
            raise SettingError(
                f"channels {spec!r}: the range {word.strip()} is reversed; write the smaller number first"
            )
        numbers.extend((first, *range(first + 1, min(last, channels) + 1)))
    return numbers


def region_mask(region: Region | None, channels: int, grid: tuple[int, int]) -> Floats | None:
    """A mask of the neurons that count, 0 or 1, that broadcasts to (C, h, w): from "y0:y1,x0:x1" in cells of
    the layer, a pair of slices, or a mask (h, w) or (C, h, w). SettingError if it does not fit, or is empty.
    """
    if region is None:
        return None
    if isinstance(region, np.ndarray):
        if region.shape not in (grid, (channels, *grid)):
            raise SettingError(
                f"region: the mask has shape {region.shape}, but the layer is "
                f"{channels} x {grid[0]} x {grid[1]}"
            )
        mask = (region != 0).astype(np.float64)
    else:
        mask = np.zeros(grid)
        mask[_require_inside(_parse_slices(region), grid)] = 1.0
    if not mask.any():
        raise SettingError(
            f"region {region_to_json(region)!r}: selects no cell of the layer, which has "
            f"{grid[0]} x {grid[1]} cells"
        )
    return mask


def region_to_json(region: Region | None) -> Any:
    """A region as a value that JSON can hold: None, "y0:y1,x0:x1", or a mask as nested lists."""
    if isinstance(region, np.ndarray):
        return (region != 0).tolist()
    return (
        region
        if region is None or isinstance(region, str)
        else ",".join(map(_format_slice, region))
    )


def _format_slice(interval: slice) -> str:
    step = [] if interval.step is None else [interval.step]
    ends = [interval.start, interval.stop, *step]
    return ":".join("" if end is None else str(end) for end in ends)


def _parse_slices(region: str | tuple[slice, slice]) -> tuple[slice, slice]:
    if isinstance(region, str) and (match := re.fullmatch(f"{SPAN},{SPAN}", region)):
        y0, y1, y, x0, x1, x = (int(number) if number else None for number in match.groups())
        return slice(y0, y1, y or None), slice(x0, x1, x or None)
    if isinstance(region, tuple) and [type(interval) for interval in region] == [slice, slice]:
        return region
    raise SettingError(
        f"region {region!r}: expected y0:y1,x0:x1 in cells of the layer, two slices, or a mask"
    )


def _require_inside(region: tuple[slice, slice], grid: tuple[int, int]) -> tuple[slice, slice]:
    """The region. SettingError if one of its ends is outside the layer."""
    for interval, size in zip(region, grid, strict=True):
        if any(abs(end) > size for end in (interval.start, interval.stop) if end is not None):
            raise SettingError(
                f"region {region_to_json(region)!r}: goes beyond the layer, which has "
                f"{grid[0]} x {grid[1]} cells"
            )
    return region


def cells_of(quantities: Mapping[str, Floats]) -> Quantities:
    """What has a value for each feature map and cell of the layer, (N, C, h, w)."""
    return {
        name: array
        for name, array in quantities.items()
        if np.ndim(array) == 4
        and (name == COUNTED or (name in QUANTITIES and QUANTITIES[name].place == "layer"))
    }


def apply_subset(
    quantities: Mapping[str, Floats], channels: list[int] | None, mask: Floats | None
) -> Quantities:
    """The quantities of the chosen feature maps, with zeros for the neurons that do not count: those add
    nothing to the weights, to sums over a feature map, or to the saliency map.
    """
    selected = cells_of(quantities)
    if mask is not None:
        selected = {name: array * mask for name, array in selected.items()}
    if channels is not None:
        selected = {name: array[:, channels] for name, array in selected.items()}
    return {**quantities, **selected}
