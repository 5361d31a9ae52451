"""The similarity of an embedding to a reference: `similar:reference.jpg`, or `similar:reference.npy`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from onnxcam.arrays import Floats
from onnxcam.errors import TargetError
from onnxcam.targets.kind import OUTPUT, target_kind
from onnxcam.targets.target import Target

SMALLEST_NORM = 1e-12  # of an embedding, which is divided by its norm


def select_similar(match: re.Match[str], shape: tuple[int, ...], reference: Floats) -> Target:
    """The target whose weights are the reference, divided by its norm. TargetError if it has another size, or
    has no direction.
    """
    vector, size = np.asarray(reference, np.float64).reshape(-1), int(np.prod(shape))
    norm, name = float(np.linalg.norm(vector)), match["reference"].strip()
    if vector.size != size:
        raise TargetError(
            f"target {match[0]!r}: {name} has {vector.size} numbers; expected {size}, as the embedding has"
        )
    if not 0 < norm < np.inf:
        raise TargetError(
            f"target {match[0]!r}: the norm of {name} is {norm:g}; expected one above 0"
        )
    return Target(f"similar to {Path(name).name}", vector / norm, -1, match[0].strip())


@target_kind("similar", r"similar:(?P<reference>.+)", select_similar)
def similar(tensors: Mapping[str, Any]) -> Any:
    """The output divided by its norm: the weighted sum is the cosine of the angle to the reference."""
    embedding = tensors[OUTPUT]
    axes = tuple(range(1, embedding.ndim))
    norm = np.sqrt(np.sum(np.square(embedding), axis=axes, keepdims=True))
    return embedding / np.maximum(norm, SMALLEST_NORM)
