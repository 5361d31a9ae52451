"""The anchors of detectors that encode their boxes relative to them: (positions, 4), x, y, width and height in
pixels, grid by grid, row by row, and cell by cell.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike

from onnxcam.arrays import Floats
from onnxcam.heads.boxes.form import Size

TENSORFLOW_GRIDS = 6
SSD_300_GRIDS = (38, 8, 2), (19, 16, 3), (10, 32, 3), (5, 64, 3), (3, 100, 2), (1, 300, 2)
RATIOS = (1.0, 2.0, 1 / 2, 3.0, 1 / 3)  # width / height


def tensorflow_ssd(size: Size) -> Floats:
    """The anchors of TensorFlow's SSD with MobileNet: scales from 0.2 to 0.95; three boxes per cell of the
    first grid, whose stride is 16, and six of the others.
    """
    height, width = size
    scales = [*np.linspace(0.2, 0.95, TENSORFLOW_GRIDS), 1.0]
    grids, sides = [], (-(-height // 16), -(-width // 16))
    for index, (scale, larger) in enumerate(pairwise(scales)):
        shapes = [(scale, ratio) for ratio in RATIOS] + [(np.sqrt(scale * larger), 1.0)]
        if index == 0:
            shapes = [(0.1, 1.0), (scale, 2.0), (scale, 1 / 2)]
        boxes = [(s * np.sqrt(ratio), s / np.sqrt(ratio)) for s, ratio in shapes]
        grids.append(_grid_of(sides, size, np.array(boxes) * min(size)))
        sides = (-(-sides[0] // 2), -(-sides[1] // 2))
    return np.concatenate(grids)


def ssd_300(size: Size) -> Floats:
    """The anchors of the first SSD, with VGG and images of 300 x 300 pixels (Liu et al. 2016, section 2.2)."""
    scales = np.array([30, 60, 111, 162, 213, 264, 315]) / 300 * min(size)
    grids = []
    for (cells, step, ratios), (scale, larger) in zip(SSD_300_GRIDS, pairwise(scales), strict=True):
        boxes = [(scale, scale), (np.sqrt(scale * larger),) * 2]
        for ratio in range(2, ratios + 1):
            boxes += [
                (scale * np.sqrt(ratio), scale / np.sqrt(ratio)),
                (scale / np.sqrt(ratio), scale * np.sqrt(ratio)),
            ]
        covered = (cells * step * size[0] / 300, cells * step * size[1] / 300)
        grids.append(_grid_of((cells, cells), covered, boxes))
    return np.concatenate(grids)


def retina_face(size: Size) -> Floats:
    """The anchors of RetinaFace: two squares per cell, of 16 to 512 pixels."""
    return _pyramid(size, {8: (16, 32), 16: (64, 128), 32: (256, 512)}, ((1.0, 1.0),))


def efficient_det(size: Size) -> Floats:
    """The anchors of EfficientDet and RetinaNet: three scales of three shapes, from four cells on."""
    strides = (8, 16, 32, 64, 128)
    sides = {stride: [4 * stride * 2 ** (octave / 3) for octave in range(3)] for stride in strides}
    return _pyramid(size, sides, ((1.0, 1.0), (1.4, 0.7), (0.7, 1.4)))


def _pyramid(
    size: Size, sides: Mapping[int, Sequence[float]], shapes: Sequence[tuple[float, float]]
) -> Floats:
    """Boxes of these sides and shapes at the centers of cells, the sides of each stride in pixels."""
    grids = []
    for stride, lengths in sides.items():
        boxes = [(length * w, length * h) for length in lengths for w, h in shapes]
        rows, columns = (-(-length // stride) for length in size)
        grids.append(_grid_of((rows, columns), (rows * stride, columns * stride), boxes))
    return np.concatenate(grids)


def _grid_of(sides: Size, size: tuple[float, float], boxes: ArrayLike) -> Floats:
    """Boxes (width, height) at the centers of the cells of a grid that covers an image of this size."""
    (rows, columns), (height, width) = sides, size
    shapes = np.asarray(boxes, np.float64)
    y, x = np.divmod(np.arange(rows * columns), columns)
    centers = np.stack([(x + 0.5) * width / columns, (y + 0.5) * height / rows], axis=1)
    return np.concatenate(
        [np.repeat(centers, len(shapes), axis=0), np.tile(shapes, (len(centers), 1))], axis=1
    )
