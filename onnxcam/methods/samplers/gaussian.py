"""Copies of the image with Gaussian noise."""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal

import numpy as np

from onnxcam.arrays import Floats, Images
from onnxcam.errors import SettingError
from onnxcam.methods.samplers.sampler import CleanRun, Rows, Samples, sampler
from onnxcam.methods.samplers.tile import tile_noise
from onnxcam.methods.settings import Range

CACHE_BYTES = 16 << 20  # noise that is stored for later images; the rest is drawn for every image


@dataclass
class GaussianNoise:
    """Standard normal noise, one array of `shape` per sample, the same for every image, device and chunk size:
    each sample has its own random stream, seeded by `seed` and its number. Slices of stored noise are passed
    through `transfer` once, which may copy them to the device.
    """

    seed: int
    shape: tuple[int, ...]
    transfer: Callable[[Floats], Any] = np.asarray
    _stored: Floats = field(init=False)
    _drawn: set[int] = field(default_factory=set, init=False)
    _transferred: dict[int, tuple[int, Any]] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        size = 4 * math.prod(self.shape)
        try:
            self._stored = np.empty((CACHE_BYTES // size, *self.shape), np.float32)
        except MemoryError:  # then nothing is stored
            self._stored = np.empty((0, *self.shape), np.float32)

    def __getitem__(self, samples: slice) -> Any:
        """float32 (samples, *shape); read-only by convention."""
        if samples.stop > len(self._stored):
            return self._draw_samples(samples)
        stop, transferred = self._transferred.get(samples.start, (None, None))
        if stop != samples.stop:
            transferred = self.transfer(self._draw_samples(samples))
            self._transferred[samples.start] = samples.stop, transferred
        return transferred

    def _draw_samples(self, samples: slice) -> Floats:
        """Draw the samples that are not stored yet, on all cores."""
        numbers, fits = range(samples.start, samples.stop), samples.stop <= len(self._stored)
        shape = (len(numbers), *self.shape)
        noise = self._stored[samples] if fits else np.empty(shape, np.float32)
        missing = [number for number in numbers if not (fits and number in self._drawn)]
        rows = [noise[number - samples.start] for number in missing]
        if missing:
            try:
                with ThreadPoolExecutor() as pool:
                    list(pool.map(self._draw, missing, rows))
            except RuntimeError:  # the system cannot start a thread
                list(map(self._draw, missing, rows))
        if fits:
            self._drawn.update(missing)
        return np.asarray(noise)

    def _draw(self, number: int, out: Floats) -> None:
        stream = np.random.Generator(np.random.SFC64([self.seed, number]))
        stream.standard_normal(out=out, dtype=np.float32)


def standard_deviation(images: Images, noise: float, sigma: float | None) -> Any:
    """The noise's standard deviation in the tensor's units: `sigma`, or `noise` times the image's range, which
    is a Value (N, 1) for a Value of N images.

    The range and the product are float32 in both, so that they are the same bits: integers plus noise would be
    rounded to others where noise ends at a half, as 0.15 * 254 times a level of `tile.TileNoise` often does.
    """
    if sigma is not None or noise == 0:
        return float(sigma or 0.0)
    if isinstance(images, np.ndarray):
        wide = np.result_type(images, np.float32).type  # integers overflow
        return float(np.float32(noise) * np.float32(wide(images.max()) - wide(images.min())))
    axes, images = tuple(range(1, images.ndim)), images.astype(np.float32)
    return noise * np.expand_dims(np.max(images, axis=axes) - np.min(images, axis=axes), 1)


def draw_noise(
    clean: CleanRun, generator: str, samples: int, seed: int, *, on_device: bool = False
) -> Rows:
    """Standard normal noise of samples of the image, which may be copied to the device. SettingError for
    independent noise in a graph, where all of it would be stored.
    """
    if generator == "tile":
        return tile_noise(clean, samples, seed)
    if clean.is_written:
        raise SettingError(f"generator={generator!r}: {TOO_LARGE}; use generator='tile'")
    shape = clean.image.shape[1:]
    transfer = clean.to_device if on_device else np.asarray
    noise: GaussianNoise = clean.recall(
        ("noise", seed, shape, on_device), lambda: GaussianNoise(seed, shape, transfer)
    )
    return noise


TOO_LARGE = "independent noise of all samples would make a model larger by many megabytes"
GENERATOR = (
    "normal draws independent noise for each sample; tile cuts all samples out of one tile of noise, as "
    "explanations inside a model do"
)
MEAN_ACTIVATION = {("activation", "mean"): {"activation": "mean_activation"}}


@sampler(
    "gaussian",
    varies="image",
    counts="samples",
    replaces=MEAN_ACTIVATION,
    smooths=True,
    weighted=("score", "exp"),
    embedded={"generator": "tile"},
    not_embeddable_with={
        ("generator", "normal"): f"{TOO_LARGE}; use generator=tile",
        ("score", "exp"): "the weight of a sample depends on the scores of all of them",
    },
)
def gaussian(
    clean: CleanRun,
    *,
    samples: Annotated[int, "number n of noisy copies per image", Range(1, 1_000_000)] = 25,
    noise: Annotated[
        float, "standard deviation, as a fraction of the tensor's range", Range(0, 100)
    ] = 0.15,
    sigma: Annotated[
        float | None, "standard deviation in the tensor's own units, instead of noise", Range(0)
    ] = None,
    seed: Annotated[
        int, "seed of the noise; the same seed gives the same map", Range(0, 2**63 - 1)
    ] = 0,
    generator: Annotated[Literal["normal", "tile"], GENERATOR] = "normal",
    activation: Annotated[  # noqa: ARG001  see MEAN_ACTIVATION
        Literal["clean", "mean"], "A on the clean image, or its mean over the samples"
    ] = "clean",
    score: Annotated[
        Literal["logit", "exp"], "exp weights each sample by exp(S_s - max S)"
    ] = "logit",
) -> Samples:
    """the model on many copies of the image with Gaussian noise."""
    spread = standard_deviation(clean.image, noise, sigma)
    scales = np.full(samples, spread) if isinstance(spread, float) else spread
    is_flat = isinstance(spread, float) and spread == 0
    offsets = None if is_flat else draw_noise(clean, generator, samples, seed, on_device=True)
    noisy = Samples(samples, offsets, scales)
    if score == "logit":
        return noisy
    scores = clean.scores(noisy)
    return replace(noisy, weights=np.exp(scores - scores.max()))
