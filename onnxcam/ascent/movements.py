"""Random movements of the image, so that a maximum does not depend on single pixels."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from onnxcam.arrays import Floats

Pullback = Callable[[Floats], Floats]  # from the gradient at the moved images to that at the images


def move(
    x: Floats, seeds: Sequence[int], step: int, *, jitter: int, zoom: float
) -> tuple[Floats, Pullback]:
    """Images x (N, C, H, W), each shifted by up to `jitter` pixels and enlarged by a factor of 1 - zoom to
    1 + zoom, both drawn for its seed and this step; what leaves the image at one side enters at the other.
    """
    if not jitter and not zoom:
        return x, lambda gradient: gradient
    draws = [_draw(seed, step, jitter, zoom) for seed in seeds]
    sizes = x.shape[2:]
    rows, columns = (
        np.stack([[sampling(size, draw[2], int(draw[axis]))] for draw in draws])
        for axis, size in enumerate(sizes)
    )
    moved = rows @ x @ np.swapaxes(columns, 2, 3)
    return moved, lambda gradient: np.swapaxes(rows, 2, 3) @ gradient @ columns


def _draw(seed: int, step: int, jitter: int, zoom: float) -> tuple[int, int, float]:
    """Two shifts and a factor."""
    generator = np.random.Generator(np.random.SFC64([seed, step + 1]))
    down, right = generator.integers(-jitter, jitter, 2, endpoint=True)
    return int(down), int(right), float(generator.uniform(1 - zoom, 1 + zoom))


def sampling(size: int, factor: float, shift: int) -> Floats:
    """(size, size): the matrix that samples a row of pixels, linearly between them, after an enlargement about
    the middle and a shift. Its rows add up to 1.
    """
    middle = (size - 1) / 2
    places = middle + (np.arange(size) - middle) / factor - shift
    first = np.floor(places).astype(int)
    matrix, part = np.zeros((size, size)), places - first
    rows = np.arange(size)
    np.add.at(matrix, (rows, first % size), 1 - part)
    np.add.at(matrix, (rows, (first + 1) % size), part)
    return matrix
