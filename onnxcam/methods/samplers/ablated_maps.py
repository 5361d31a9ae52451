"""The values of a layer without one of its feature maps, for every feature map."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from onnxcam.arrays import Floats
from onnxcam.methods.samplers.sampler import CleanRun, Computed, Samples, sampler
from onnxcam.specs import Layer


def count_maps(layer: Layer, _: Mapping[str, Any]) -> int | None:
    """The number of feature maps, None if the graph leaves it open."""
    return layer.channels if isinstance(layer.channels, int) else None


@sampler(
    "ablated-maps",
    varies="activation",
    total=count_maps,
    named=("selected", "unchanged_score"),
    not_embeddable="it runs the model for every feature map that is not 0, which the clean run tells",
)
def ablated_maps(clean: CleanRun) -> Samples:
    """the model after the layer, with one feature map set to 0; once for every feature map.

    Values that are no cells, such as class tokens, are kept, and feature maps that are 0 are not run. The
    formula may take `selected` (N, C), 1 for those that were run, and `unchanged_score` (N,), which the model
    after the layer computes without a change.
    """
    values, axis = np.asarray(clean.values, np.float32), clean.layer.channel_axis
    change = values * (clean.mix(np.zeros((1, *clean.grid))) - 1).astype(np.float32)
    by_channel = np.moveaxis(change, axis, 1)[0]
    channels = len(by_channel)
    is_active = np.any(by_channel.reshape(channels, -1), axis=1)
    numbers = np.flatnonzero(is_active) if is_active.any() else np.zeros(1, np.intp)

    def removed(samples: slice) -> Floats:
        """What must be added to set a feature map to 0."""
        chosen = numbers[samples]
        offsets = np.zeros((len(chosen), *values.shape[1:]), np.float32)
        np.moveaxis(offsets, axis, 1)[np.arange(len(chosen)), chosen] = by_channel[chosen]
        return offsets

    return Samples(
        len(numbers),
        Computed(removed),
        named={
            "selected": is_active[None].astype(np.float64),
            "unchanged_score": clean.scores(Samples(1)),
        },
        columns=numbers,
        width=channels,
    )
