"""A Gaussian of image patches, and draws of a part of a patch given the rest of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from onnxcam.arrays import Floats, Maps

PATCHES = 2000  # that a Gaussian is fitted on
MAX_VALUES = 16 << 20  # of all patches: 128 MB
SHRINKAGE = 1e-3  # part of the mean variance that is added to every variance, as noise of its own


@dataclass(frozen=True)
class PatchGaussian:
    """The normal distribution with the mean of patches and with the covariance factors.T @ factors + ridge,
    which is never computed: it has the square of a patch's size.

    Attributes:
        mean: (d,), of patches (C, h, w) as vectors.
        factors: (P, d) float32, the patches without the mean, divided by the root of their number.
        ridge: the variance of independent noise.
        limits: the smallest and the largest value of each channel, (C, 1, 1).
    """

    mean: Floats
    factors: Floats
    ridge: float
    limits: tuple[Floats, Floats]

    @classmethod
    def fit(cls, patches: Maps) -> PatchGaussian:
        """That of patches (P, C, h, w)."""
        vectors = patches.reshape(len(patches), -1)
        mean = vectors.mean(axis=0)
        factors = (vectors - mean) / np.sqrt(len(vectors))
        variance = float(np.sum(np.square(factors))) / factors.shape[1]
        low, high = patches.min(axis=(0, 2, 3)), patches.max(axis=(0, 2, 3))
        return cls(
            mean,
            factors.astype(np.float32),
            max(SHRINKAGE * variance, 1e-12),
            (low[:, None, None], high[:, None, None]),
        )


@dataclass(frozen=True)
class Conditional:
    """Draws of the part of a patch that is `hidden`, a mask (d,), given the rest: a draw of the complete patch
    is corrected by what the rest differs from that of the draw, times the covariance of the two (Matheron's
    rule). No matrix is larger than the rest of the patch, or the patches.
    """

    gaussian: PatchGaussian
    hidden: NDArray[np.bool_]

    @cached_property
    def _factors_of_rest(self) -> Floats:
        return self.gaussian.factors[:, ~self.hidden]

    @cached_property
    def _precision_of_rest(self) -> Floats:
        factors = self._factors_of_rest.astype(np.float64)
        covariance = factors.T @ factors
        covariance[np.diag_indices_from(covariance)] += self.gaussian.ridge
        return np.linalg.inv(covariance)

    def draw(self, rest: Floats, deviates: Floats, noise: Floats) -> Floats:
        """(n, hidden values), for the values of the rest, and standard normal `deviates` (n, P) of the patches
        and `noise` (n, d).
        """
        gaussian, hidden = self.gaussian, self.hidden
        noise = np.sqrt(gaussian.ridge) * noise
        drawn = gaussian.mean[~hidden] + deviates @ self._factors_of_rest + noise[:, ~hidden]
        missing = (rest - drawn) @ self._precision_of_rest @ self._factors_of_rest.T
        values = (deviates + missing).astype(np.float32) @ gaussian.factors
        return gaussian.mean[hidden] + values[:, hidden] + noise[:, hidden]


def cut_patches(images: Sequence[Maps], size: tuple[int, int], draw: np.random.Generator) -> Maps:
    """About PATCHES patches (P, C, h, w) at random places, the same number of each image (1, C, H, W); fewer if
    they are large.
    """
    height, width = size
    count = min(PATCHES, MAX_VALUES // (images[0].shape[1] * height * width))
    of_image = max(1, -(-count // len(images)))
    patches = []
    for (image,) in images:
        rows, columns = image.shape[1] - height + 1, image.shape[2] - width + 1
        places = draw.choice(rows * columns, min(of_image, rows * columns), replace=False)
        for top, left in zip(*np.divmod(places, columns), strict=True):
            patches.append(image[:, top : top + height, left : left + width])
    return np.stack(patches)
