"""Gaussian blur of images, by Fourier transforms, which take the same time for every width."""

from __future__ import annotations

from functools import lru_cache

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
    reach = int(CUT_OFF * sigma + 0.5)
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    distances = np.minimum(np.arange(2 * size), 2 * size - np.arange(2 * size))
    is_near = distances <= min(reach, size - 1)
    kernel = np.where(is_near, np.exp(-0.5 * (distances / sigma) ** 2), 0.0) / weights.sum()
    return np.fft.rfft(kernel).real


def blur_inside(images: Maps, sigma: float) -> Maps:
    """Images (N, C, H, W) blurred without the zeros around them: the weights inside an image add up to 1."""
    return Blur(images)(sigma) / Blur(np.ones((1, 1, *images.shape[2:])))(sigma)
