"""Non-maximum suppression by ONNX Runtime's own operator."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from onnxcam.arrays import Array, Floats
from onnxcam.runtime.device import Device
from onnxcam.runtime.session import Session

# a model of one node, which tests/runtime/test_suppression.py writes as text: runs without importing onnx
NON_MAX_SUPPRESSION = (
    b'\x08\x08:\xe0\x01\nE\n\x05boxes\n\x06scores\n\x05count\n\x07overlap\n\tmin_score\x12\x04best"\x11'
    b"NonMaxSuppression:\x00\x12\x07onnxcamZ\x1c\n\x05boxes\x12\x13\n\x11\x08\x01\x12\r\n\x02\x08\x01\n\x03"
    b"\x12\x01P\n\x02\x08\x04Z\x1e\n\x06scores\x12\x14\n\x12\x08\x01\x12\x0e\n\x02\x08\x01\n\x03\x12\x01C\n"
    b"\x03\x12\x01PZ\x0f\n\x05count\x12\x06\n\x04\x08\x07\x12\x00Z\x11\n\x07overlap\x12\x06\n\x04\x08\x01"
    b"\x12\x00Z\x13\n\tmin_score\x12\x06\n\x04\x08\x01\x12\x00b\x17\n\x04best\x12\x0f\n\r\x08\x07\x12\t\n\x03"
    b"\x12\x01K\n\x02\x08\x03B\x04\n\x00\x10\x0b"
)


def suppress(boxes: Floats, scores: Floats, count: int, min_score: float, overlap: float) -> Array:
    """Rows (class, position) of the boxes that are kept, at most `count` per class, best first within a class.

    `boxes` is (P, 4), two opposite corners; `scores` is (C, P). Boxes of one class whose intersection over
    union with a better one is above `overlap` are left out, and those whose score is not above `min_score`.
    """
    feeds = {
        "boxes": boxes[None].astype(np.float32),
        "scores": scores[None].astype(np.float32),
        "count": np.int64(count),
        "overlap": np.float32(overlap),
        "min_score": np.float32(min_score),
    }
    (rows,) = _session().run(["best"], {name: np.asarray(array) for name, array in feeds.items()})
    return rows[:, 1:]


@lru_cache(maxsize=1)
def _session() -> Session:
    return Session(NON_MAX_SUPPRESSION, Device("cpu"), threads=1)
