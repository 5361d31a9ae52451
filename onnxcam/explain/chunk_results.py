"""Put together what the chunks of samples return."""

from __future__ import annotations

import numpy as np

from onnxcam.arrays import Array
from onnxcam.methods import QUANTITIES


def collect(part: list[Array], array: Array, *, is_sum: bool) -> None:
    """Add a chunk's array to those before it: sums, and what the graph could not add up, are added up, in
    place.
    """
    if is_sum and len(array) > 1:
        array = np.sum(array, axis=0, keepdims=True)
    if not is_sum:
        part.append(array)
    elif part:
        np.add(part[0], array, out=part[0])
    else:
        part.append(np.array(array, np.float64))


def combine(part: list[Array], quantity: str, count: int) -> Array:
    """The quantity of all `count` samples: a mean, rows, or a stack (1, count)."""
    reduction = QUANTITIES[quantity].reduction
    if reduction == "mean":
        return np.asarray(part[0], np.float64) / count
    rows = part[0] if len(part) == 1 else np.concatenate(part)
    return rows if reduction == "" else np.reshape(rows, (1, -1))
