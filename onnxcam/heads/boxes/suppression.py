"""Which detections are explained: the best of boxes that overlap. It chooses only what to explain, and changes
no map.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from onnxcam.arrays import Floats
from onnxcam.runtime.suppression import suppress

OVERLAP = 0.5  # intersection over union above which two boxes show the same object


def best_detections(
    boxes: Floats,
    scores: Floats,
    count: int,
    min_score: float,
    overlap: float = OVERLAP,
    classes: NDArray[np.integer] | None = None,
) -> NDArray[np.intp]:
    """The positions of at most `count` detections, best first (non-maximum suppression).

    Args:
        boxes: (P, 4) x0, y0, x1, y1. Boxes that are not finite are left out.
        scores: (P,). Those not above `min_score` are left out.
        overlap: the intersection over union with a better box above which a box is left out, 0 to 1.
        classes: (P,), the class of each box: then only boxes of the same class are compared.
    """
    usable = np.flatnonzero(np.isfinite(boxes).all(axis=1) & np.isfinite(scores))
    if count < 1 or not usable.size:
        return np.zeros(0, np.intp)
    labels = np.zeros(len(scores), np.intp) if classes is None else classes
    names, rows = np.unique(labels[usable], return_inverse=True)
    by_class = np.full((len(names), len(usable)), -np.inf)
    by_class[rows, np.arange(len(usable))] = scores[usable]
    detections = usable[suppress(boxes[usable], by_class, count, min_score, overlap)[:, 1]]
    best: NDArray[np.intp] = detections[np.argsort(-scores[detections], kind="stable")][:count]
    return best
