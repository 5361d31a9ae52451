"""Gaussian noise made of one small tile, so that a graph can hold it: 0.2 MB for any number of samples of an
image of 224 x 224 pixels. All samples are the same numbers on every machine and in every runtime.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from typing import Any

import numpy as np

from onnxcam.arrays import Floats
from onnxcam.methods.samplers.sampler import CleanRun, Tabulated

MARGIN = 32  # by which a tile is larger than the image
CLIP, LEVELS = 4.5, 127  # the largest deviate, and the int8 that stands for it
STEP = CLIP / LEVELS
FEW = 4  # channels, which have 24 orders
TILE, ORDER, PLACE = range(3)  # random streams of a seed


@dataclass(frozen=True)
class Symmetry:
    """How a sample is cut out of the tile: from where, which sides are flipped, whether rows and columns are
    exchanged (of square images), the order of the channels, and the sign.
    """

    start: tuple[int, int]
    flipped: tuple[bool, bool]
    transposed: bool
    channels: tuple[int, ...]
    sign: int


@lru_cache(maxsize=4096)
def draw_symmetry(seed: int, number: int, channels: int, *, is_square: bool) -> Symmetry:
    """The symmetry of a sample. None is used again before all are used; places and signs are random."""
    orders = channel_orders(channels)
    count = len(orders) * (8 if is_square else 4)
    block, place = divmod(number, count)
    code = int(_stream(seed, ORDER, block).permutation(count)[place])
    draw = _stream(seed, PLACE, number)
    top, left, negative = draw.integers((MARGIN + 1, MARGIN + 1, 2)).tolist()
    return Symmetry(
        start=(top, left),
        flipped=(bool(code & 1), bool(code & 2)),
        transposed=is_square and bool(code & 4),
        channels=orders[code // (8 if is_square else 4)],
        sign=-1 if negative else 1,
    )


@cache
def channel_orders(channels: int) -> list[tuple[int, ...]]:
    """All orders of a few channels; of more, those that are shifted around."""
    numbers = tuple(range(channels))
    if channels <= FEW:
        return [*itertools.permutations(numbers)]
    return [numbers[shift:] + numbers[:shift] for shift in numbers]


def _stream(*seeds: int) -> np.random.Generator:
    return np.random.Generator(np.random.SFC64(seeds))


@dataclass(frozen=True)
class TileNoise:
    """Noise of samples in units of STEP, before its sign. Crops alone would not be independent: a network
    answers a shifted image by a shifted map, so every crop has a symmetry of its own.

    Attributes:
        tile: (1, C, H + 32, W + 32) int8, standard normal deviates over STEP; an array, or a Value.
        seed: that of the symmetries.
        channel_axis: 1 or 3, where the channels of images are.
    """

    tile: Any
    seed: int
    channel_axis: int

    @classmethod
    def draw(cls, seed: int, shape: tuple[int, ...], channel_axis: int) -> TileNoise:
        """The noise of images (…) of a shape in the layout of the model."""
        sizes = list(shape)
        channels = sizes.pop(channel_axis - 1)
        height, width = sizes
        deviates = _stream(seed, TILE).standard_normal(
            (1, channels, height + MARGIN, width + MARGIN)
        )
        levels = np.rint(np.clip(deviates, -CLIP, CLIP) / STEP)
        return cls(levels.astype(np.int8), seed, channel_axis)

    def __getitem__(self, samples: slice) -> Any:
        """int8 (samples, …) in the layout of the model."""
        numbers = range(samples.start or 0, samples.stop)
        maps = np.concatenate([self._crop(self.symmetry(number)) for number in numbers])
        return np.moveaxis(maps, 1, self.channel_axis)

    def steps(self, samples: int) -> Floats:
        """(samples, 1, 1, 1) float32: STEP with the sign of each sample."""
        signs = [self.symmetry(number).sign for number in range(samples)]
        return np.reshape(STEP * np.array(signs), (-1, 1, 1, 1)).astype(np.float32)

    def symmetry(self, number: int) -> Symmetry:
        """That of a sample."""
        _, channels, height, width = self.tile.shape
        return draw_symmetry(self.seed, number, channels, is_square=height == width)

    def _crop(self, symmetry: Symmetry) -> Any:
        """(1, C, H, W) int8."""
        sizes = [size - MARGIN for size in self.tile.shape[2:]]
        rows, columns = map(_interval, symmetry.start, sizes, symmetry.flipped)
        crop = self.tile[:, :, rows, columns]
        channels = list(symmetry.channels)
        crop = crop if channels == sorted(channels) else np.take(crop, channels, axis=1)
        return np.swapaxes(crop, 2, 3) if symmetry.transposed else crop


def _interval(start: int, size: int, is_flipped: bool) -> slice:
    """So many pixels from a start on, or backward to it."""
    if not is_flipped:
        return slice(start, start + size)
    return slice(start + size - 1, start - 1 if start else None, -1)


def dequantize(levels: Any, steps: Any) -> Any:
    """Standard normal deviates, float32: one product, which every runtime rounds alike."""
    return levels.astype(np.float32) * steps


def tile_noise(clean: CleanRun, samples: int, seed: int) -> Tabulated:
    """Standard normal noise of samples of the image. In a graph, the samples are made of a constant and of
    constant indices, so that runtimes compute them once, when a session starts.
    """
    shape, axis = tuple(clean.image.shape[1:]), clean.layer.channel_axis
    noise: TileNoise = clean.recall(
        ("tile", seed, shape, axis), lambda: TileNoise.draw(seed, shape, axis)
    )
    levels = (
        replace(noise, tile=clean.constant(noise.tile))[0:samples] if clean.is_written else noise
    )
    return Tabulated(dequantize, (levels, noise.steps(samples)))
