"""Resize along one axis, by the definitions of ONNX: a matrix of weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from onnxcam.arrays import Floats
from onnxcam.autodiff.lowering.cubic import KEYS_A, cubic_far, cubic_near


@dataclass(frozen=True)
class ResizedAxis:
    """The cells i of a resized axis of `out` cells, that had `size` cells, and the ends of the crop."""

    i: Floats
    out: Any
    size: Any
    scale: Any
    start: Any
    end: Any

    @property
    def crop_positions(self) -> Floats:
        """The first and last cell are at the ends of the crop."""
        last = self.size - 1
        if self.out == 1:
            return np.zeros_like(self.i) + (self.start + self.end) * last / 2
        return self.start * last + self.i * (self.end - self.start) * last / (self.out - 1)

    @property
    def half_pixel_positions(self) -> Floats:
        """The position of a cell is its center."""
        return (self.i + 0.5) / self.scale - 0.5


POSITIONS: dict[str, Callable[[ResizedAxis], Floats]] = {
    # of the cells on the original axis, by coordinate_transformation_mode
    "half_pixel": lambda axis: axis.half_pixel_positions,
    "half_pixel_symmetric": lambda axis: (
        axis.half_pixel_positions + axis.size / 2 * (1 - axis.out / (axis.scale * axis.size))
    ),
    "pytorch_half_pixel": lambda axis: axis.half_pixel_positions if axis.out > 1 else 0 * axis.i,
    "tf_half_pixel_for_nn": lambda axis: axis.half_pixel_positions + 0.5,
    "align_corners": lambda axis: axis.i * (axis.size - 1) / max(axis.out - 1, 1),
    "asymmetric": lambda axis: axis.i / axis.scale,
    "tf_crop_and_resize": lambda axis: axis.crop_positions,
}
ROUNDINGS: dict[str, Callable[[Floats], Floats]] = {
    "round_prefer_floor": lambda position: np.ceil(position - 0.5),
    "round_prefer_ceil": lambda position: np.floor(position + 0.5),
    "floor": np.floor,
    "ceil": np.ceil,
}
FLOAT32_ERROR = 1e-6  # of a position, per cell of the axis
WEIGHT_TOLERANCE = 0.1  # where rounding decides, a weight changes by 1; elsewhere by far less


@dataclass(frozen=True)
class Interpolation:
    """How values between cells are computed: the attributes of Resize."""

    mode: str
    coordinates: str
    rounding: str | None
    cubic: float = KEYS_A
    exclude: bool = False
    antialias: bool = False

    def matrix(
        self, size: int, out: int, scale: float, roi: tuple[float, float] = (0.0, 1.0)
    ) -> Floats | None:
        """The weight (size, out) of each cell of an axis in each cell of the resized axis, cropped to `roi`.

        None where it depends on the rounding of float32, which differs from runtime to runtime.
        """
        in_float32, positions = (
            self._positions(size, out, scale, roi, dtype) for dtype in (np.float32, np.float64)
        )
        is_exact = (in_float32 == positions) & (self.coordinates != "half_pixel_symmetric")
        error = np.where(is_exact, 0, FLOAT32_ERROR * (size + 1))
        low, high = (self._weights(positions + shift, size, scale) for shift in (-error, error))
        is_certain = np.max(np.abs(high - low), initial=0) < WEIGHT_TOLERANCE
        return self._weights(positions, size, scale) if is_certain else None

    def _weights(self, positions: Floats, size: int, scale: float) -> Floats:
        if self.mode == "nearest":
            before_11 = "ceil" if scale < 1 else "floor"  # opset 10 has no attribute for it
            rounded = ROUNDINGS[self.rounding or before_11](positions)
            nearest = np.clip(rounded, 0, size - 1)
            weights: Floats = np.eye(size)[:, nearest.astype(int)]
        else:
            weights = self._filter(positions, size, scale)
        if self.coordinates == "tf_crop_and_resize":  # outside, the value is a constant
            weights = weights * ((positions >= 0) & (positions <= size - 1))
        return weights

    def _positions(
        self, size: int, out: int, scale: float, roi: tuple[float, float], dtype: type[Any]
    ) -> Floats:
        """The positions of the output's cells on the original axis, computed in a dtype."""
        numbers = (dtype(number) for number in (out, size, np.float32(scale), *roi))
        axis = ResizedAxis(np.arange(out, dtype=dtype), *numbers)
        return np.asarray(POSITIONS[self.coordinates](axis), np.float64)

    def _filter(self, positions: Floats, size: int, scale: float) -> Floats:
        """Cells beyond the border have the value of the border, or no weight (exclude_outside)."""
        stretch = max(1.0, 1.0 / scale) if self.antialias else 1.0
        reach = int(np.ceil((2 if self.mode == "cubic" else 1) * stretch))
        cells = np.floor(positions)[:, None] + np.arange(1 - reach, reach + 1)
        weights = self._kernel(np.abs(cells - positions[:, None]) / stretch)
        if self.exclude:
            weights = weights * ((cells >= 0) & (cells < size))
        weights = weights / np.sum(weights, axis=1, keepdims=True)
        identity, indices = np.eye(size), np.clip(cells, 0, size - 1).astype(int)
        terms = [
            identity[:, index] * weight for index, weight in zip(indices.T, weights.T, strict=True)
        ]
        return np.asarray(sum(terms[1:], start=terms[0]))

    def _kernel(self, distance: Floats) -> Floats:
        """A hat, or the cubic convolution kernel."""
        if self.mode == "linear":
            return np.maximum(1 - distance, 0)
        near, far = (kernel(distance, self.cubic) for kernel in (cubic_near, cubic_far))
        return np.where(distance <= 1, near, np.where(distance < 2, far, 0.0))
