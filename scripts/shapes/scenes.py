"""Seeded images with several objects of any classes, with the box and the mask of each.

Where `drawing.draw` paints one labeled class and distractors, a scene has no label: it is what a detector, a
segmenter, or a question is about.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from scripts.shapes.drawing import (
    CLASSES,
    Canvas,
    Spot,
    find_spot,
    paint_ground,
    paint_object,
    stamp,
    to_pixels,
)

RADII = (0.09, 0.24)  # shares of the side
LITTLE_CLUTTER = (0, 5)
CROWDED = 4  # objects; from these on, the largest are smaller


@dataclass(frozen=True)
class Scene:
    """An image and its objects; the masks are pairwise disjoint.

    pixels: (S, S, 3) uint8, sRGB.
    labels: (K,) int64, indices into CLASSES.
    masks: (K, S, S) bool, the visible pixels of each object.
    """

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]
    masks: NDArray[np.bool_]

    @property
    def boxes(self) -> NDArray[np.float32]:
        """(K, 4): x0, y0, x1, y1 in pixels, around the visible pixels of each object."""
        return np.stack([_bounds(mask) for mask in self.masks])

    @property
    def label_map(self) -> NDArray[np.uint8]:
        """(S, S): 0 on the ground, 1 + the class on objects."""
        numbers = (1 + self.labels).astype(np.uint8)[:, None, None]
        return np.asarray((self.masks * numbers).max(axis=0))


def _bounds(mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return np.array((columns[0], rows[0], columns[-1] + 1, rows[-1] + 1), np.float32)


def draw_scene(
    rng: Generator, size: int, labels: Sequence[int], *, is_textured: bool = True
) -> Scene:
    """Draw a scene with an object of each of these classes, as far as they find room: at least the first one.

    Args:
        rng: the source of chance.
        size: pixels a side.
        labels: indices into CLASSES; a class may occur several times.
        is_textured: whether the ground has a texture and clutter, and the image has noise.
    """
    canvas = paint_ground(rng, size, LITTLE_CLUTTER) if is_textured else _plain_ground(rng, size)
    spots = _find_spots(rng, labels, size)
    covers = np.stack([stamp(rng, spot, size) for spot in spots])
    for cover in covers:
        canvas = paint_object(rng, canvas, cover)
    is_visible = (covers >= 0.5) & (np.arange(len(covers))[:, None, None] == covers.argmax(axis=0))
    pixels = to_pixels(rng, canvas) if is_textured else (canvas * 255).round().astype(np.uint8)
    return Scene(pixels, np.array([spot.kind for spot in spots]), is_visible)


def draw_labels(
    rng: Generator, most: int, classes: Sequence[int] = range(len(CLASSES))
) -> list[int]:
    """The classes of 1 to `most` objects, each drawn by itself."""
    return [int(label) for label in rng.choice(classes, int(rng.integers(1, most + 1)))]


def _plain_ground(rng: Generator, size: int) -> Canvas:
    return np.broadcast_to(rng.random(3), (size, size, 3))


def _find_spots(rng: Generator, labels: Sequence[int], size: int) -> list[Spot]:
    least, most = RADII
    largest = most if len(labels) < CROWDED else (least + most) / 2
    spots: list[Spot] = []
    for label in labels:
        radius = float(rng.uniform(least, largest) * size)
        spot = find_spot(rng, label, radius, spots, size)
        spots += [spot] if spot else []
    return spots
