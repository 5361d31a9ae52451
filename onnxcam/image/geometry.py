"""Where the pixels of an image lie in the input tensor of a model, and back.

Coordinates are those of pixel edges: pixel i of an axis reaches from i to i + 1, its center is i + 0.5.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from onnxcam.arrays import Array, Floats

Fit = Literal["crop", "squash", "squash-crop", "letterbox", "letterbox-corner"]
Box = tuple[float, float, float, float]  # left, top, right, bottom
Size = tuple[int, int]  # width, height

FITS: tuple[Fit, ...] = get_args(Fit)


class Placement(NamedTuple):
    """How an image fills a tensor: the part `source` of it, in its pixels, is resized to `size`, with its upper
    left corner at `corner` (left, top); the rest of the tensor is padding.
    """

    source: Box
    size: Size
    corner: tuple[int, int] = (0, 0)

    def box(self, tensor: Size) -> Box:
        """The part of the image that the tensor shows; with padding, it extends beyond the image."""
        if self.size == tensor:
            return self.source
        (left, right), (top, bottom) = (
            (
                start - corner * (end - start) / side,
                start + (full - corner) * (end - start) / side,
            )
            for start, end, side, corner, full in zip(
                self.source[:2], self.source[2:], self.size, self.corner, tensor, strict=True
            )
        )
        return (left, top, right, bottom)


def place(image: Size, tensor: Size, fit: Fit, crop_ratio: float) -> Placement:
    """How an image of a size fills a tensor of a size by a fit (see `Preprocessing`)."""
    full = (0.0, 0.0, float(image[0]), float(image[1]))
    if fit == "squash":
        return Placement(full, tensor)
    if fit in ("letterbox", "letterbox-corner"):
        return _letterbox(image, tensor, full, fit)
    resized = resized_sides(tensor, crop_ratio)
    if fit == "crop":  # keep the proportions: one axis decides the scale
        limiting_axis = int(resized[1] * image[0] > resized[0] * image[1])
        resized = [resized[limiting_axis] * side // image[limiting_axis] for side in image]
    return Placement(_central_part(image, tensor, resized), tensor)


def resized_sides(tensor: Size, crop_ratio: float) -> list[int]:
    """The sides of which a crop to the sides of the tensor keeps this ratio."""
    return [math.floor(side / crop_ratio + 1e-9) for side in tensor]


def _central_part(image: Size, tensor: Size, resized: Sequence[int]) -> Box:
    """Where the usual two steps, resizing and cutting out the center at whole pixels, would put the crop.
    Pillow resamples that part directly: the same pixels, without the large image between.
    """
    start = [round((full - side) / 2) for full, side in zip(resized, tensor, strict=True)]
    left, top = (s * p / r for s, p, r in zip(start, image, resized, strict=True))
    right, bottom = (
        min((s + t) * p / r, p) for s, t, p, r in zip(start, tensor, image, resized, strict=True)
    )
    return (left, top, right, bottom)


def _letterbox(image: Size, tensor: Size, full: Box, fit: Fit) -> Placement:
    """As large as fits: in the middle with sides rounded (Ultralytics), or in the upper left corner with sides
    rounded down (YOLOX).
    """
    scale = min(tensor[0] / image[0], tensor[1] / image[1])
    if fit == "letterbox-corner":
        width, height = (max(1, math.floor(side * scale + 1e-9)) for side in image)
        return Placement(full, (width, height))
    width, height = (max(1, round(side * scale)) for side in image)
    return Placement(full, (width, height), ((tensor[0] - width) // 2, (tensor[1] - height) // 2))


@dataclass(frozen=True)
class Geometry:
    """The two sizes, (width, height), and the `box` of the image that the tensor shows, in pixels of the image
    (see `PreparedImage`).

    Points are (..., 2) as x, y; boxes are (..., 4) as left, top, right, bottom. They may lie outside of the
    image or the tensor.
    """

    image: Size
    tensor: Size
    box: Box

    def to_tensor(self, coordinates: ArrayLike) -> Floats:
        """Points or boxes in pixels of the image, in pixels of the tensor; float64."""
        pairs = _as_pairs(coordinates)
        moved = (pairs - self._start) / self._scale
        return np.asarray(moved.reshape(np.shape(coordinates)))

    def to_image(self, coordinates: ArrayLike) -> Floats:
        """Points or boxes in pixels of the tensor, in pixels of the image; float64."""
        pairs = _as_pairs(coordinates)
        moved = pairs * self._scale + self._start
        return np.asarray(moved.reshape(np.shape(coordinates)))

    def mask_to_tensor(self, mask: Array) -> Floats:
        """(image height, width) -> (tensor height, width): how much of each pixel of the tensor a mask of the
        image covers, for a mask of 0 and 1; otherwise its mean there. Padding is 0.
        """
        rows, columns = self._edges(1), self._edges(0)
        return _mean_between(_mean_between(np.asarray(mask, np.float64), rows, 0), columns, 1)

    def map_to_image(self, values: Array) -> Floats:
        """(tensor height, width) -> (image height, width): the values at the centers of the image's pixels, by
        bilinear interpolation; 0 where the tensor does not show the image. `values` may have any size: they are
        cells that fill the tensor.
        """
        cells: Floats = np.asarray(values, np.float64)
        for axis, number in ((0, 1), (1, 0)):
            start, end = self.box[number], self.box[number + 2]
            centers = (np.arange(self.image[number]) + 0.5 - start) / (end - start)
            cells = _interpolate(cells, centers, axis)
        return cells

    @property
    def _start(self) -> Floats:
        return np.array(self.box[:2])

    @property
    def _scale(self) -> Floats:
        """Pixels of the image for a pixel of the tensor, along x and y."""
        return (np.array(self.box[2:]) - self._start) / self.tensor

    def _edges(self, number: int) -> Floats:
        """The edges of the tensor's pixels in pixels of the image, along x (0) or y (1)."""
        start, end = self.box[number], self.box[number + 2]
        return np.linspace(start, end, self.tensor[number] + 1)


def _as_pairs(coordinates: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(coordinates, np.float64)
    return array.reshape(*array.shape[:-1], -1, 2)


def _mean_between(values: Floats, edges: Floats, axis: int) -> Floats:
    """The mean of `values` between successive edges along an axis; beyond their end they are 0."""
    count, rows = values.shape[axis], np.moveaxis(values, axis, 0)
    sums = np.concatenate([np.zeros_like(rows[:1]), np.cumsum(rows, axis=0)])
    inside = np.clip(edges, 0, count)
    first = np.minimum(inside.astype(np.intp), count - 1)
    rest = (inside - first)[:, np.newaxis]
    means = np.diff(sums[first] + rest * rows[first], axis=0) / np.diff(edges)[:, np.newaxis]
    return np.moveaxis(means, 0, axis)


def _interpolate(cells: Floats, centers: Floats, axis: int) -> Floats:
    """The values at relative positions along an axis (0: its start, 1: its end); 0 beyond them."""
    count, rows = cells.shape[axis], np.moveaxis(cells, axis, 0)
    position = np.clip(centers * count - 0.5, 0, count - 1)
    first = np.minimum(position.astype(np.intp), max(count - 2, 0))
    rest = (position - first)[:, np.newaxis]
    after = rows[np.minimum(first + 1, count - 1)]
    mixed = rows[first] * (1 - rest) + after * rest
    is_inside = (centers >= 0) & (centers <= 1)
    return np.moveaxis(mixed * is_inside[:, np.newaxis], 0, axis)
