"""Gaussian blur of images: by Fourier transforms, which take the same time for every width, and by products of
matrices, which can be written into a graph.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import numpy as np

from onnxcam.arrays import Floats, Maps

CUT_OFF = 4.0  # standard deviations


class Blur:
    """Blurs of images (N, C, H, W) by Gaussians that are cut off at 4 standard deviations, with zeros around
    the images. The weights of a Gaussian add up to 1; those that fall outside the image are lost.
    """

    def __init__(self, images: Maps) -> None:
        self.images = images.astype(np.float64)
        self._spectrum = np.fft.rfft(self.images, 2 * images.shape[3], axis=3)

    def __call__(self, sigma: float) -> Maps:
        """The images under a Gaussian with this standard deviation in pixels; themselves for 0."""
        if sigma == 0:
            return self.images
        height, width = self.images.shape[2:]
        rows = np.fft.irfft(self._spectrum * _transfer(sigma, width), axis=3)[..., :width]
        columns = np.fft.rfft(rows, 2 * height, axis=2) * _transfer(sigma, height)[:, None]
        return np.asarray(np.fft.irfft(columns, axis=2)[:, :, :height])


@lru_cache(maxsize=256)
def _transfer(sigma: float, size: int) -> Floats:
    """The Fourier transform of the Gaussian on 2 * size positions, so that nothing wraps around."""
    reach = _reach(sigma)
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    distances = np.minimum(np.arange(2 * size), 2 * size - np.arange(2 * size))
    is_near = distances <= min(reach, size - 1)
    kernel = np.where(is_near, np.exp(-0.5 * (distances / sigma) ** 2), 0.0) / weights.sum()
    return np.fft.rfft(kernel).real


def _reach(sigma: float) -> int:
    """The largest distance in pixels with a weight."""
    return int(CUT_OFF * sigma + 0.5)


def blur_inside(images: Maps, sigma: float) -> Maps:
    """Images (N, C, H, W) blurred without the zeros around them: the weights inside an image add up to 1."""
    return Blur(images)(sigma) / Blur(np.ones((1, 1, *images.shape[2:])))(sigma)


def describe_kernels(sigmas: Iterable[float]) -> Floats:
    """(n, 3) float32: of each Gaussian 1 / (sqrt(2) sigma), its reach, and the sum of its weights."""
    return np.array([_describe(sigma) for sigma in sigmas], np.float32)


def _describe(sigma: float) -> tuple[float, float, float]:
    reach = _reach(sigma)
    if reach == 0:  # the image itself
        return 1.0, 0.0, 1.0
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    return 1 / (np.sqrt(2) * sigma), reach, float(weights.sum())


def blur_by_products(images: Any, kernels: Any) -> Any:
    """Images (N, C, H, W) under Gaussians (N, 3), or (1, 3) for all; `Blur` computes the same."""
    down, across = (_matrices(kernels, images.shape[axis]) for axis in (2, 3))
    return down @ images @ across


def blur_inside_by_products(images: Any, kernels: Any) -> Any:
    """The same as `blur_inside`."""
    down, across = (_matrices(kernels, images.shape[axis]) for axis in (2, 3))
    inside = np.sum(down, axis=3, keepdims=True) * np.sum(across, axis=2, keepdims=True)
    return down @ images @ across / inside


def _matrices(kernels: Any, size: int) -> Any:
    """(n, 1, size, size): the weights of pixels along an axis in each other. In a graph, they are computed from
    the kernels, and not stored.
    """
    pixels = np.arange(size, dtype=np.float32) + 0.0 * kernels[:, :1]
    distances = np.expand_dims(np.abs(pixels[:, :, None] - pixels[:, None]), 1)
    rate, reach, total = (np.expand_dims(kernels[:, n : n + 1], (2, 3)) for n in range(3))
    weights = np.exp(-np.square(distances * rate)) / total
    return weights * (distances <= reach).astype(np.float32)
