"""Copies of the image of which one window is hidden."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from onnxcam.arrays import Floats
from onnxcam.methods.baselines import Baseline, read_baseline
from onnxcam.methods.samplers.masks import hide
from onnxcam.methods.samplers.sampler import CleanRun, Samples, Tabulated, sampler
from onnxcam.methods.settings import Range
from onnxcam.specs import Layer

Length = Range(0.01, 10_000)  # pixels, or a part below 1


@dataclass(frozen=True)
class Axis:
    """The windows along one side of an image of `size` pixels. The last one ends at the border."""

    size: int
    window: int
    stride: int

    @property
    def starts(self) -> NDArray[np.intp]:
        """The first pixel of each window."""
        last = self.size - self.window
        return np.array([*range(0, last, self.stride), last])

    def contains(self, starts: Floats) -> NDArray[np.bool_]:
        """(n, size): whether a pixel lies in the windows with these starts (n, 1)."""
        distance = np.arange(self.size, dtype=np.float32) - starts
        return (distance >= 0) & (distance < self.window)

    @property
    def shares(self) -> Floats:
        """(1, windows, size): the weights of a mean over the windows that contain a pixel."""
        inside = self.contains(self.starts.astype(np.float32)[:, None])
        return (inside / np.sum(inside, axis=0))[None]


@dataclass(frozen=True)
class Windows:
    """Windows of an image, row by row."""

    rows: Axis
    columns: Axis

    def __len__(self) -> int:
        return len(self.rows.starts) * len(self.columns.starts)

    def place(self, number: int) -> tuple[slice, slice]:
        """The rows and columns of a window."""
        row, column = divmod(number, len(self.columns.starts))
        top, left = int(self.rows.starts[row]), int(self.columns.starts[column])
        return slice(top, top + self.rows.window), slice(left, left + self.columns.window)

    def side_with(self, padding: int) -> tuple[int, int]:
        """The height and width of a window that is larger by `padding` on every side; at most the image's."""
        height, width = (
            min(axis.size, axis.window + 2 * padding) for axis in (self.rows, self.columns)
        )
        return height, width

    @property
    def corners(self) -> tuple[Floats, Floats]:
        """(n, 1) float32, the first row and the first column of each window."""
        row, column = np.divmod(np.arange(len(self)), len(self.columns.starts))
        top, left = self.rows.starts[row], self.columns.starts[column]
        return top.astype(np.float32)[:, None], left.astype(np.float32)[:, None]

    def masks(self, top: Floats, left: Floats) -> Floats:
        """(n, height, width) float32 for corners (n, 1): 0 in the window, 1 elsewhere. Runs on Values, too."""
        rows, columns = self.rows.contains(top), self.columns.contains(left)
        return (~(rows[:, :, None] & columns[:, None])).astype(np.float32)

    @property
    def named(self) -> dict[str, Floats]:
        """What formulas take by name."""
        return {"window_rows": self.rows.shares, "window_columns": self.columns.shares}


def place_windows(size: tuple[int, int], window: float, stride: float) -> Windows:
    """Square windows of an image (height, width), cut off at its sides. Below 1, `window` is a part of the
    shorter side, and `stride` one of the window. A stride is at most the window, so that no pixel is left out.
    """
    side = _pixels(window, min(size))
    step = min(side, _pixels(stride, side))
    rows, columns = (Axis(length, min(side, length), step) for length in size)
    return Windows(rows, columns)


def count_windows(layer: Layer, settings: Mapping[str, Any]) -> int | None:
    """The number of windows, None if the model takes images of any size."""
    height, width = layer.grid
    if not isinstance(height, int) or not isinstance(width, int):
        return None
    return len(place_windows((height, width), settings["window"], settings["stride"]))


def _pixels(length: float, of: int) -> int:
    return max(1, round(length * of if length < 1 else length))


@sampler(
    "windows",
    varies="image",
    total=count_windows,
    named=("window_rows", "window_columns"),
)
def windows(
    clean: CleanRun,
    *,
    window: Annotated[
        float, "side of a window in pixels; below 1, a part of the image's shorter side", Length
    ] = 0.15,
    stride: Annotated[
        float,
        "pixels from one window to the next, at most its side; below 1, a part of the window",
        Length,
    ] = 0.5,
    baseline: Baseline = 0.0,
) -> Samples:
    """the model on copies of the image of which a window is replaced by a baseline; once for every window.

    With the default settings, that is 169 times for 224 x 224 pixels. The formula may take `window_rows` (N,
    windows along the height, H) and `window_columns`: weights of a mean over the windows that contain a pixel.
    """
    placed = place_windows(clean.grid, window, stride)
    return Samples(
        len(placed),
        hide(clean, read_baseline(clean, baseline), Tabulated(placed.masks, placed.corners)),
        named=placed.named,
    )
