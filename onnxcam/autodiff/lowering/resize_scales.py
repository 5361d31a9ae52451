"""How much Resize scales each axis, and what it crops to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from onnxcam.arrays import Array
from onnxcam.errors import ModelError
from onnxcam.graph.tracing import Value

Numbers: TypeAlias = Array | Value | None


@dataclass(frozen=True)
class ResizeScales:
    """`scales` or `sizes`, and the region `roi` that is cropped to, along some axes.

    Values if they are known at run time only.
    """

    axes: tuple[int, ...]
    scales: Numbers
    sizes: Numbers
    roi: Numbers
    policy: str = "stretch"

    def scale(self, axis: int, x: Value, y: Value) -> float | None:
        """The scale of an axis, None if it is known at run time only."""
        if isinstance(self.scales, Value):
            return None
        if self.scales is not None:
            return float(self.scales[self.axes.index(axis)])
        if self.policy != "stretch":
            return self._common_scale(x)
        size, out = x.shape[axis], y.shape[axis]
        return out / size if isinstance(size, int) and isinstance(out, int) else None

    def _common_scale(self, x: Value) -> float:
        sizes = [size for axis in self.axes if isinstance(size := x.shape[axis], int)]
        if isinstance(self.sizes, Value) or self.sizes is None or len(sizes) < len(self.axes):
            raise ModelError(
                f"the Resize that reads {x.name!r} keeps the aspect ratio, so it needs fixed sizes; "
                "export the model with fixed sizes"
            )
        scales = np.asarray(self.sizes, np.float64) / sizes
        return float(min(scales) if self.policy == "not_larger" else max(scales))

    def crop(self, axis: int) -> tuple[float, float] | None:
        """The start and end of the crop along an axis, None if they are known at run time only."""
        if isinstance(self.roi, Value):
            return None
        if self.roi is None or not len(self.roi):
            return (0.0, 1.0)
        index = self.axes.index(axis)
        return float(self.roi[index]), float(self.roi[index + len(self.axes)])

    def resized_axes(self, x: Value, y: Value) -> list[int]:
        """The axes that change, largest scale first: contracting it leaves the smallest g for the others."""
        axes = [axis for axis in self.axes if self._changes(axis, x, y)]
        return sorted(axes, key=lambda axis: -(self.scale(axis, x, y) or 1.0))

    def _changes(self, axis: int, x: Value, y: Value) -> bool:
        scale = self.scale(axis, x, y)
        if self.roi is not None and self.crop(axis) != (0.0, 1.0):
            return True
        if scale is not None:
            return scale != 1
        if x.shape[axis] == y.shape[axis]:
            return self.scales is not None and axis > 1
        # with sizes that are known at run time only, no model resizes batch or channels
        return axis > (1 if isinstance(x.shape[1 % x.ndim], int) else 0) or x.ndim < 3
