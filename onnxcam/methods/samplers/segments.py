"""Segments of an image: superpixels of scikit-image, or a regular grid."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from onnxcam.arrays import Array, Floats, Maps
from onnxcam.methods.samplers.sampler import CleanRun

Labels = NDArray[np.intp]  # (H, W): the number of the segment of each pixel, from 0 on
Segmentation = Literal["slic", "grid"]
MIN_PIXELS = 4  # of a segment, on average
COMPACTNESS, BLUR = 10.0, 1.0  # of SLIC: distance against color, and the blur before it, in pixels


def find_segments(
    clean: CleanRun, kind: Segmentation, count: int
) -> tuple[Labels, tuple[str, ...]]:
    """About `count` segments of the image, and notices. At most one for four pixels: the mean color of one
    pixel hides nothing.
    """
    count = max(1, min(count, math.prod(clean.grid) // MIN_PIXELS))
    cells = grid_segments(clean.grid, count)
    if kind == "grid":
        return cells, ()
    slic = _slic()
    if slic is None:
        return cells, (MISSING,)
    colors = np.moveaxis(_colors(clean)[0], 0, -1)
    labels = slic(
        colors,
        n_segments=count,
        compactness=COMPACTNESS,
        sigma=BLUR,
        convert2lab=colors.shape[-1] == 3,
        start_label=0,
        channel_axis=-1,
    )
    present, numbers = np.unique(labels, return_inverse=True)
    return (
        (cells, (TOO_FEW,)) if len(present) < min(2, count) else (numbers.reshape(labels.shape), ())
    )


TOO_FEW = "the image has a single superpixel, so the segments are the cells of a grid instead"
MISSING = (
    "scikit-image is not installed, so the segments are the cells of a grid instead of superpixels; install it "
    "(pip install 'onnxcam[superpixels]')"
)


def _slic() -> Callable[..., Array] | None:
    """The function of scikit-image, which is optional."""
    try:
        from skimage.segmentation import slic
    except ImportError:
        return None
    function: Callable[..., Array] = slic
    return function


def _colors(clean: CleanRun) -> Maps:
    """(1, C, H, W): the image with values from 0 to 1."""
    black, white = (clean.color(level).astype(np.float64) for level in (0.0, 1.0))
    colors = (clean.image - black) / (white - black)
    return np.clip(clean.layer.channels_first(colors, 1.0), 0.0, 1.0)


def grid_segments(size: tuple[int, int], count: int) -> Labels:
    """About `count` cells, nearly square, of an image (height, width)."""
    height, width = size
    rows = min(height, max(1, round(math.sqrt(count * height / width))))
    columns = min(width, max(1, round(count / rows)))
    return (np.arange(height) * rows // height * columns)[:, None] + (
        np.arange(width) * columns // width
    )


def mean_colors(clean: CleanRun, labels: Labels) -> Floats:
    """The image with the mean of its segment at each pixel, in the layout of the model."""
    pixels = clean.layer.channels_first(clean.image, 1.0)[0]
    counts = np.bincount(labels.ravel())
    means = [np.bincount(labels.ravel(), channel.ravel()) / counts for channel in pixels]
    return np.moveaxis(np.stack(means)[None, :, labels], 1, clean.layer.channel_axis)
