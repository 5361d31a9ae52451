"""How an image is made of the parameters that are changed: its pixels, or the waves that it is a sum of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from onnxcam.arrays import Floats
from onnxcam.errors import SettingError

BASES = ("fourier", "pixels")
# gray, yellow - blue, green - magenta: nearly uncorrelated in photographs, with these deviations there
COLORS = np.array([[1, 1, 1], [1, 0, -1], [-1, 2, -1]]) / np.sqrt([[3], [2], [6]])
DEVIATIONS = np.array([[1.0], [0.34], [0.21]])  # as fractions of that of gray


class Basis(Protocol):
    """A parametrization of images x (N, C, H, W), in which -1 is black and 1 is white."""

    def start(self, seeds: Sequence[int], deviation: float) -> Floats:
        """Parameters of nearly gray noise, one image for each seed."""

    def image(self, parameters: Floats) -> Floats:
        """The images, within -1 and 1."""

    def gradient(self, x: Floats, gradient: Floats) -> Floats:
        """The gradient at the parameters of the images x, of one at x."""

    def project(self, parameters: Floats) -> Floats:
        """The parameters, brought back into the range that images may have."""

    def blur(self, parameters: Floats, deviation: float) -> Floats:
        """The parameters after a Gaussian blur whose standard deviation is that many pixels."""


def make_basis(name: str, channels: int, size: tuple[int, int]) -> Basis:
    """A basis by its name. SettingError for another name."""
    if name not in BASES:
        raise SettingError(f"basis={name!r}: expected {' or '.join(BASES)}")
    return Waves(channels, size) if name == "fourier" else Pixels(channels, size)


def noise(seeds: Sequence[int], shape: tuple[int, ...]) -> Floats:
    """(len(seeds), *shape): standard normal, of each seed the same whatever the others are."""
    return np.stack([np.random.Generator(np.random.SFC64(s)).standard_normal(shape) for s in seeds])


def frequencies(size: tuple[int, int]) -> Floats:
    """(H, W // 2 + 1): the frequencies of a real Fourier transform, in waves per pixel."""
    height, width = size
    return np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])


def transmission(size: tuple[int, int], deviation: float) -> Floats:
    """What a Gaussian blur leaves of waves, by their frequency."""
    return np.exp(-2 * np.square(np.pi * deviation * frequencies(size)))


@dataclass(frozen=True)
class Pixels:
    """The parameters are the pixels, which are clipped after each step."""

    channels: int
    size: tuple[int, int]

    def start(self, seeds: Sequence[int], deviation: float) -> Floats:
        """See `Basis`."""
        return self.project(deviation * noise(seeds, (self.channels, *self.size)))

    def image(self, parameters: Floats) -> Floats:
        """See `Basis`."""
        return parameters

    def gradient(self, x: Floats, gradient: Floats) -> Floats:  # noqa: ARG002  as other bases need it
        """See `Basis`."""
        return gradient

    def project(self, parameters: Floats) -> Floats:
        """See `Basis`."""
        return np.clip(parameters, -1, 1)

    def blur(self, parameters: Floats, deviation: float) -> Floats:
        """See `Basis`. The image is continued as in a mirror."""
        height, width = self.size
        ends = ((0, 0), (0, 0), (0, height), (0, width))
        mirrored = np.pad(parameters, ends, mode="symmetric")
        size = (2 * height, 2 * width)
        waves = np.fft.rfft2(mirrored) * transmission(size, deviation)
        return np.fft.irfft2(waves, size)[..., :height, :width]


@dataclass(frozen=True)
class Waves:
    """Olah et al. 2017: x = tanh(M F^-1(c / f)). The parameters c (N, C, H, W // 2 + 1, 2) are the real and
    imaginary parts of waves, which are divided by their frequency f, as those of photographs fall off; M are
    colors that are uncorrelated in photographs. A step then changes all scales and colors about alike.
    """

    channels: int
    size: tuple[int, int]

    @property
    def _scales(self) -> Floats:
        """What the parameters of a wave are multiplied by; the mean counts as the longest wave."""
        return 1 / np.maximum(frequencies(self.size), 1 / max(self.size))

    @property
    def _colors(self) -> Floats:
        """(C, C): the colors, as rows."""
        return COLORS * DEVIATIONS if self.channels == 3 else np.ones((1, 1))

    def start(self, seeds: Sequence[int], deviation: float) -> Floats:
        """See `Basis`."""
        height, width = self.size
        return deviation * noise(seeds, (self.channels, height, width // 2 + 1, 2))

    def image(self, parameters: Floats) -> Floats:
        """See `Basis`."""
        waves = self._scales * (parameters[..., 0] + 1j * parameters[..., 1])
        planes = np.fft.irfft2(waves, self.size, norm="ortho")
        return np.tanh(np.einsum("kc,nkhw->nchw", self._colors, planes))

    def gradient(self, x: Floats, gradient: Floats) -> Floats:
        """See `Basis`. The transpose of irfft2 is rfft2 whose waves count twice, once for their mirror image,
        but for those of the first column and, in an even width, of the last one.
        """
        planes = np.einsum("kc,nchw->nkhw", self._colors, gradient * (1 - np.square(x)))
        waves = self._scales * np.fft.rfft2(planes, norm="ortho")
        waves[..., 1 : (self.size[1] + 1) // 2] *= 2
        return np.stack([waves.real, waves.imag], axis=-1)

    def project(self, parameters: Floats) -> Floats:
        """See `Basis`. All parameters are images."""
        return parameters

    def blur(self, parameters: Floats, deviation: float) -> Floats:
        """See `Basis`. The image is continued periodically."""
        return parameters * transmission(self.size, deviation)[..., None]
