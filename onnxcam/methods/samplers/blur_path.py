"""The image under ever more blur, and the steps between neighbors, for an integral over the blur."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Annotated, Any

import numpy as np

from onnxcam.arrays import Floats
from onnxcam.methods.blur import Blur, blur_by_products, describe_kernels
from onnxcam.methods.samplers.sampler import CleanRun, Computed, Samples, Tabulated, sampler
from onnxcam.methods.settings import Range

CHUNKS = 4  # of samples that are stored, because their offsets and steps are computed together


def blur_levels(clean: CleanRun, spacing: float) -> Callable[[int, int], Floats]:
    """The function from a range of levels to the images (levels, ...) in the layout of the model, in float64;
    level s has the standard deviation s * spacing.
    """
    layer = clean.layer
    blur = Blur(layer.channels_first(clean.image, 1.0))

    def levels(start: int, stop: int) -> Floats:
        pixels = np.concatenate([blur(level * spacing) for level in range(start, stop)])
        return np.moveaxis(pixels, 1, layer.channel_axis)

    return levels


@sampler("blur-path", varies="image", counts="steps", named=("baseline_score",))
def blur_path(
    clean: CleanRun,
    *,
    steps: Annotated[int, "steps from the image to the strongest blur", Range(1, 100_000)] = 50,
    max_sigma: Annotated[
        float, "standard deviation of the strongest blur, in pixels", Range(0, 1e6)
    ] = 35.0,
) -> Samples:
    """the model on the image at levels of blur.

    Sample s is the image blurred by s / steps times `max_sigma`, and its input `step` is what the next step
    takes away, so that the sum over gradient times step is an integral over the path. Images are blurred when
    they are run, so that memory does not grow with `steps`.
    """
    if clean.is_written:
        return _in_graph(clean, steps, max_sigma)
    levels = blur_levels(clean, max_sigma / steps)

    @lru_cache(CHUNKS)
    def rows(start: int, stop: int) -> tuple[Floats, Floats]:
        images = levels(start, stop + 1)
        offsets, differences = images[:-1] - clean.image, images[:-1] - images[1:]
        return offsets.astype(np.float32), differences.astype(np.float32)

    last = Computed(lambda _: (levels(steps, steps + 1) - clean.image).astype(np.float32))
    return Samples(
        steps,
        Computed(lambda samples: rows(samples.start, samples.stop)[0]),
        weights=np.full(steps, float(steps)),
        inputs={"step": Computed(lambda samples: rows(samples.start, samples.stop)[1])},
        named={"baseline_score": clean.scores(Samples(1, last))},
    )


def _in_graph(clean: CleanRun, steps: int, max_sigma: float) -> Samples:
    """The same samples for a graph, without a score."""
    kernels = describe_kernels(max_sigma / steps * level for level in range(steps + 1))
    tables, axis = (kernels[:-1], kernels[1:]), clean.layer.channel_axis

    def blurred(image: Any, kernel: Any) -> Any:
        return np.moveaxis(blur_by_products(np.moveaxis(image, axis, 1), kernel), 1, axis)

    def offsets(kernel: Any, _: Any, image: Any) -> Any:
        return blurred(image, kernel) - image

    def differences(kernel: Any, following: Any, image: Any) -> Any:
        return blurred(image, kernel) - blurred(image, following)

    return Samples(
        steps,
        Tabulated(offsets, tables, (clean.image,)),
        weights=np.full(steps, float(steps)),
        inputs={"step": Tabulated(differences, tables, (clean.image,))},
    )
