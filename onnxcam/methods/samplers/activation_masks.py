"""Copies of the image of which the feature maps of a layer show parts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from onnxcam.arrays import Floats, Maps
from onnxcam.methods.enlarge import cell_positions, enlarge
from onnxcam.methods.samplers.gaussian import GaussianNoise
from onnxcam.methods.samplers.sampler import CleanRun, Computed, Samples, sampler
from onnxcam.methods.settings import Range
from onnxcam.specs import Layer

UNKNOWN_MASKS = "its masks are made from the activations of the clean run"
MASKS = 16  # masks that are stored, of which several copies are run

MapLimit = Annotated[
    int,
    "how many feature maps are run: those that vary most over the cells; 0 runs all",
    Range(0, 1_000_000),
]
Change = Callable[[Floats, int], Floats]
"""Makes a mask from one of a feature map, and the number of the copy."""


@dataclass(frozen=True)
class ActivationMasks:
    """Feature maps (C, h, w) as masks of images of a size: enlarged, and then scaled from 0 to 1."""

    maps: Floats
    size: tuple[int, int]

    def draw(self, number: int) -> Floats:
        """(height, width) float32, the mask of one feature map."""
        cells = self.maps[number]
        rows, columns = (cell_positions(*axis) for axis in zip(self.size, cells.shape, strict=True))
        mask = enlarge(cells, rows, columns, np.empty(self.size, np.float32))
        mask -= mask.min()
        mask /= mask.max() or np.float32(1)
        return mask


def choose_maps(maps: Floats, limit: int) -> NDArray[np.intp]:
    """The numbers of the feature maps (C, h, w) that are not flat; if they are more than `limit`, and that is
    not 0, those of the largest standard deviation.
    """
    numbers = np.flatnonzero(np.ptp(maps, axis=(1, 2)))
    if not 0 < limit < len(numbers):
        return numbers
    order = np.argsort(-np.std(maps[numbers], axis=(1, 2)), kind="stable")
    return np.sort(numbers[order[:limit]])


def masked_copies(
    clean: CleanRun, activation: Maps, limit: int, copies: int, change: Change
) -> Samples:
    """The image under the masks of the feature maps, so many copies of each. The formula may take `selected`
    (N, C): 1 for the feature maps that were run. A flat one has no mask.
    """
    image, channels = np.asarray(clean.image, np.float32), activation.shape[1]
    numbers = choose_maps(activation[0], limit)
    selected = np.isin(np.arange(channels), numbers)[None].astype(np.float64)
    if not len(numbers):
        numbers = np.zeros(1, np.intp)  # all of them are flat, and count for nothing
    masks = ActivationMasks(activation[0].astype(np.float32), clean.grid)
    draw = lru_cache(MASKS)(masks.draw)

    def hidden(samples: slice) -> Floats:
        """What must be added to leave the image times the mask."""
        pairs = (divmod(sample, copies) for sample in range(samples.start, samples.stop))
        shown = np.stack([change(draw(numbers[number]), copy) for number, copy in pairs])
        shown -= 1
        return image * clean.mix(shown)

    return Samples(
        len(numbers) * copies,
        Computed(hidden),
        named={"selected": selected},
        columns=(numbers[:, None] * copies + np.arange(copies)).ravel(),
        width=channels * copies,
    )


def count_masks(layer: Layer, settings: Mapping[str, Any], copies: int = 1) -> int | None:
    """The number of samples at a layer, None if the graph leaves its number of channels open."""
    channels = layer.channels
    if not isinstance(channels, int):
        return None
    return copies * min(settings["maps"] or channels, channels)


@sampler("activation-masks", total=count_masks, named=("selected",), not_embeddable=UNKNOWN_MASKS)
def activation_masks(clean: CleanRun, activation: Maps, *, maps: MapLimit = 0) -> Samples:
    """the model on the image times a mask, once for every feature map of the layer.

    A mask is a feature map, enlarged to the image and scaled from 0 to 1.
    """
    return masked_copies(clean, activation, maps, 1, lambda mask, _: mask)


@sampler(
    "noisy-activation-masks",
    counts="samples",
    total=lambda layer, settings: count_masks(layer, settings, settings["samples"]),
    named=("selected",),
    not_embeddable=UNKNOWN_MASKS,
)
def noisy_activation_masks(
    clean: CleanRun,
    activation: Maps,
    *,
    samples: Annotated[int, "number n of noisy masks per feature map", Range(1, 100_000)] = 35,
    sigma: Annotated[
        float, "standard deviation of the noise of masks, which are from 0 to 1", Range(0)
    ] = 2.0,
    seed: Annotated[
        int, "seed of the noise; the same seed gives the same map", Range(0, 2**63 - 1)
    ] = 0,
    maps: MapLimit = 0,
) -> Samples:
    """the model on the image times a mask with Gaussian noise, many times for every feature map of the layer.

    Copy s of every mask has the same noise, so that the means over the copies differ by the masks alone.
    """
    size = clean.grid
    noise = clean.recall(("noisy masks", seed, size), lambda: GaussianNoise(seed, size))

    def add_noise(mask: Floats, copy: int) -> Floats:
        return mask + np.float32(sigma) * noise[copy : copy + 1][0]

    return masked_copies(clean, activation, maps, samples, add_noise)


@sampler(
    "fading-activation-masks",
    counts="steps",
    total=lambda layer, settings: count_masks(layer, settings, settings["steps"]),
    named=("selected",),
    not_embeddable=UNKNOWN_MASKS,
)
def fading_activation_masks(
    clean: CleanRun,
    activation: Maps,
    *,
    steps: Annotated[int, "number N of steps from black to the mask", Range(1, 100_000)] = 10,
    maps: MapLimit = 0,
) -> Samples:
    """the model on the image times i / N of a mask, i = 1 to N, for every feature map of the layer."""
    return masked_copies(
        clean, activation, maps, steps, lambda mask, copy: mask * np.float32((copy + 1) / steps)
    )
