"""What Resize does along one axis, by the words of ONNX: a matrix of weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from onnxcam.arrays import Floats
from onnxcam.autodiff.lowering.cubic import KEYS_A, cubic_far, cubic_near


@dataclass(frozen=True)
class Cells:
    """The cells i of a resized axis, of how many, of how many there were; and what is cropped to."""

    i: Floats
    out: Any
    size: Any
    scale: Any
    start: Any
    end: Any

    @property
    def cropped(self) -> Floats:
        """The ends of the crop are the first and last cell."""
        last = self.size - 1
        if self.out == 1:
            return np.zeros_like(self.i) + (self.start + self.end) * last / 2
        return self.start * last + self.i * (self.end - self.start) * last / (self.out - 1)

    @property
    def half_pixel(self) -> Floats:
        """The centre of a cell is its place."""
        return (self.i + 0.5) / self.scale - 0.5


COORDINATES: dict[str, Callable[[Cells], Floats]] = {  # their places on the axis there was
    "half_pixel": lambda c: c.half_pixel,
    "half_pixel_symmetric": lambda c: c.half_pixel + c.size / 2 * (1 - c.out / (c.scale * c.size)),
    "pytorch_half_pixel": lambda c: c.half_pixel if c.out > 1 else 0 * c.i,
    "tf_half_pixel_for_nn": lambda c: c.half_pixel + 0.5,
    "align_corners": lambda c: c.i * (c.size - 1) / max(c.out - 1, 1),
    "asymmetric": lambda c: c.i / c.scale,
    "tf_crop_and_resize": lambda c: c.cropped,
}
ROUNDINGS: dict[str, Callable[[Floats], Floats]] = {
    "round_prefer_floor": lambda at: np.ceil(at - 0.5),
    "round_prefer_ceil": lambda at: np.floor(at + 0.5),
    "floor": np.floor,
    "ceil": np.ceil,
}
ROUNDING = 1e-6  # of the size of an axis: what float32 may move a place by
CERTAIN = 0.1  # a rounding that decides changes a weight by 1, any other by far less


@dataclass(frozen=True)
class Interpolation:
    """How values between cells are made. `roi` is the start and end of what is cropped to."""

    mode: str
    coordinates: str
    rounding: str | None
    cubic: float = KEYS_A
    exclude: bool = False
    antialias: bool = False

    def matrix(
        self, size: int, out: int, scale: float, roi: tuple[float, float] = (0.0, 1.0)
    ) -> Floats | None:
        """The weight (size, out) of each cell of an axis in each cell of the resized one. None where it
        hangs on a rounding of float32, of which every runtime has its own.
        """
        narrow, places = (
            self._places(size, out, scale, roi, dtype) for dtype in (np.float32, np.float64)
        )
        exact = (narrow == places) & (self.coordinates != "half_pixel_symmetric")
        doubt = np.where(exact, 0, ROUNDING * (size + 1))
        low, high = (self._weights(places + each, size, scale) for each in (-doubt, doubt))
        certain = np.max(np.abs(high - low), initial=0) < CERTAIN
        return self._weights(places, size, scale) if certain else None

    def _weights(self, places: Floats, size: int, scale: float) -> Floats:
        if self.mode == "nearest":
            before_11 = "ceil" if scale < 1 else "floor"  # before opset 11 nobody could choose
            rounded = ROUNDINGS[self.rounding or before_11](places)
            near = np.clip(rounded, 0, size - 1)
            weights: Floats = np.eye(size)[:, near.astype(int)]
        else:
            weights = self._filtered(places, size, scale)
        if self.coordinates == "tf_crop_and_resize":  # what lies outside takes a number instead
            weights = weights * ((places >= 0) & (places <= size - 1))
        return weights

    def _places(
        self, size: int, out: int, scale: float, roi: tuple[float, float], dtype: type[Any]
    ) -> Floats:
        """Where each cell of the output lies in the input."""
        given = (dtype(each) for each in (out, size, np.float32(scale), *roi))
        cells = Cells(np.arange(out, dtype=dtype), *given)
        return np.asarray(COORDINATES[self.coordinates](cells), np.float64)

    def _filtered(self, places: Floats, size: int, scale: float) -> Floats:
        """Cells beyond the border have the value of the border, or do not count (exclude_outside)."""
        stretch = max(1.0, 1.0 / scale) if self.antialias else 1.0
        reach = int(np.ceil((2 if self.mode == "cubic" else 1) * stretch))
        cells = np.floor(places)[:, None] + np.arange(1 - reach, reach + 1)
        weights = self._kernel(np.abs(cells - places[:, None]) / stretch)
        if self.exclude:
            weights = weights * ((cells >= 0) & (cells < size))
        weights = weights / np.sum(weights, axis=1, keepdims=True)
        one, index = np.eye(size), np.clip(cells, 0, size - 1).astype(int)
        terms = [one[:, cell] * weight for cell, weight in zip(index.T, weights.T, strict=True)]
        return np.asarray(sum(terms[1:], start=terms[0]))

    def _kernel(self, distance: Floats) -> Floats:
        """A hat, or the cubic convolution of Keys 1981 with parameter a."""
        if self.mode == "linear":
            return np.maximum(1 - distance, 0)
        near, far = (kernel(distance, self.cubic) for kernel in (cubic_near, cubic_far))
        return np.where(distance <= 1, near, np.where(distance < 2, far, 0.0))
