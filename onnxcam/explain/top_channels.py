"""The feature maps that weigh most in a map: the part of each, ranked, and drawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from onnxcam.arrays import Floats, Quantities, Saliency
from onnxcam.errors import SettingError
from onnxcam.explain.formula import BoundFormula
from onnxcam.image import overlay
from onnxcam.image.geometry import Box
from onnxcam.image.panel import draw_panel
from onnxcam.methods import METHODS, Method
from onnxcam.methods.subset import apply_subset, cells_of, select_channels

CELL, COLUMNS = 168, 4  # pixels of a panel, and panels side by side
SAME = 1e-4  # relative difference of two maps that are equal up to rounding


class TopChannels(NamedTuple):
    """The feature maps with the largest parts in the map of one image.

    numbers: n numbers of feature maps, the largest part first.
    shares: (n,), the sum of the part of each, of the sum of all parts.
    weights: n numbers w_k where the part is relu(w_k A_k); None where each cell has a weight of its own.
    maps: (n, h, w), the parts: the map that the method gives for this feature map alone.
    """

    numbers: tuple[int, ...]
    shares: Floats
    weights: tuple[float | None, ...]
    maps: Saliency

    def to_json(self) -> list[dict[str, Any]]:
        """As values that JSON can hold."""
        return [
            {"number": number, "share": float(share), "weight": weight}
            for number, share, weight in zip(self.numbers, self.shares, self.weights, strict=True)
        ]


def check_top_channels(method: Method, layers: Sequence[object], count: int) -> int:
    """The number of feature maps to rank, 0 for none. SettingError for a method or layers in which they have no
    parts, or a number below 0.
    """
    if count < 0:
        raise SettingError(f"top_channels={count}: expected a number of feature maps, or 0")
    if not count:
        return 0
    if not method.sums_channels:
        names = ", ".join(name for name, row in METHODS.items() if row.sums_channels)
        raise SettingError(
            f"--top-channels does not apply to {method.name}, whose map is no sum over the feature maps of a "
            f"layer; those to which it applies: {names}"
        )
    if len(layers) > 1:
        raise SettingError(
            f"--top-channels needs one layer, but there are {len(layers)}; choose one with --layer"
        )
    return count


def rank_channels(formula: BoundFormula, quantities: Quantities, count: int) -> TopChannels:
    """The `count` feature maps with the largest parts in the map of one image, from its quantities (1, ...) at
    the layer. Those without a part are left out.
    """
    selected = formula.select(quantities)
    chosen = select_channels(
        formula.subset.channels, next(iter(cells_of(quantities).values())).shape[1]
    )
    channels = next(iter(cells_of(selected).values())).shape[1]
    parts = np.concatenate(
        [formula.compute(apply_subset(selected, [k], None)).saliency for k in range(channels)]
    )
    sums = np.abs(parts).sum(axis=(1, 2))
    order = [int(k) for k in np.argsort(-sums, kind="stable")[:count] if sums[k] > 0]
    activation = selected["activation"][0]
    return TopChannels(
        numbers=tuple(chosen[k] if chosen else k for k in order),
        shares=sums[order] / (sums.sum() or 1.0),
        weights=tuple(_weight(parts[k], activation[k]) for k in order),
        maps=parts[order],
    )


def _weight(part: Floats, activation: Floats) -> float | None:
    """The w of a part relu(w A), which may be below 0 where A is, too; None if there is no such number."""
    for signed in (activation, -activation):
        positive = np.maximum(signed, 0.0)
        square = float(np.sum(positive * positive))
        size = float(np.sum(part * positive)) / square if square else 0.0
        if size and np.allclose(part, size * positive, rtol=SAME, atol=SAME * float(part.max())):
            return size if signed is activation else -size
    return None


def draw_channels(image: Image.Image, box: Box, top: TopChannels) -> Image.Image:
    """The part of each feature map over the image, with its number, share and weight."""
    if not top.numbers:
        return overlay.sheet([draw_panel(image, np.zeros((1, 1)), box, CELL)], [""], cell=CELL)
    titles = [
        f"#{number}: {100 * share:.1f} %" + ("" if weight is None else f", w {weight:.2g}")
        for number, share, weight in zip(top.numbers, top.shares, top.weights, strict=True)
    ]
    panels = [draw_panel(image, part, box, CELL) for part in top.maps]
    return overlay.sheet(panels, titles, columns=COLUMNS, cell=CELL)
