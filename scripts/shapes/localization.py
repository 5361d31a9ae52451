"""Whether a map covers the objects: metrics of a map and the masks of the objects' instances."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]  # (K, H, W), one an instance
Map = NDArray[np.floating]


@dataclass(frozen=True)
class Figures:
    """Of one image, each in 0..1.

    energy: the part of the map's sum that lies inside the masks (energy-based pointing game).
    area: the part of the image that the masks cover: what a flat map would get.
    pointing: 1 if the map's highest cell lies in a mask.
    hit: the share of instances with a peak inside; a peak is a cell not below its 8 neighbors that
        reaches half of the map's maximum.
    low_hit: the same with a quarter of the maximum.
    all_hit: 1 if all instances are hit.
    """

    energy: float
    area: float
    pointing: float
    hit: float
    low_hit: float
    all_hit: float


def figures(full: Map, coarse: Map, masks: Mask) -> Figures:
    """`full` (H, W) is the map at the masks' size, `coarse` (h, w) the layer's own."""
    union = np.asarray(masks.any(axis=0))
    total = float(full.sum())
    hit, low_hit = (_hit_instances(masks, peaks(coarse, height)) for height in (0.5, 0.25))
    return Figures(
        energy=float((full * union).sum()) / total if total > 0 else 0.0,
        area=float(union.mean()),
        pointing=float(union[np.unravel_index(np.argmax(full), full.shape)]) if total > 0 else 0.0,
        hit=float(hit.mean()),
        low_hit=float(low_hit.mean()),
        all_hit=float(hit.all()),
    )


def peaks(coarse: Map, height: float) -> NDArray[np.float64]:
    """The centers (P, 2) of the peaks of a map, as (y, x) in 0..1 of its size."""
    h, w = coarse.shape
    wide = np.pad(coarse, 1, constant_values=-np.inf)
    around = [wide[y : y + h, x : x + w] for y in range(3) for x in range(3) if (y, x) != (1, 1)]
    enough = height * float(coarse.max()) or 1e-300  # of an empty map no cell is a peak
    peaks = np.argwhere((coarse >= enough) & (coarse >= np.max(around, axis=0)))
    return (peaks + 0.5) / np.array([h, w])


def _hit_instances(masks: Mask, centers: NDArray[np.float64]) -> NDArray[np.bool_]:
    """(K,): which instances hold a center."""
    _, height, width = masks.shape
    rows, columns = (centers * np.array([height, width])).astype(int).T
    return np.asarray(masks[:, rows, columns].any(axis=1))


def mean(rows: list[Figures]) -> dict[str, float]:
    """Each figure's mean over images."""
    names = Figures.__dataclass_fields__
    return {name: float(np.mean([getattr(row, name) for row in rows])) for name in names}
