"""One element of a tensor: `element:NAME[4,17]`, with an index for each axis after the batch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from onnxcam.errors import TargetError
from onnxcam.targets.kind import target_kind
from onnxcam.targets.target import Target


def select_element(match: re.Match[str], shape: tuple[int, ...]) -> Target:
    """The target with the weight 1 at the indices. TargetError if the tensor does not have them."""
    name = match[0].strip()
    indices = tuple(int(number) for number in match["indices"].split(","))
    is_inside = len(indices) == len(shape) and all(
        -size <= index < size for index, size in zip(indices, shape, strict=True)
    )
    if not is_inside:
        sizes = " x ".join(map(str, shape))
        raise TargetError(
            f"target {name!r}: {match['tensor']} holds {sizes} numbers per image; expected an "
            f"index for each axis, counted from 0: {', '.join(f'0 to {size - 1}' for size in shape)}"
        )
    weights = np.zeros(shape)
    weights[indices] = 1.0
    return Target(name, weights.reshape(-1), int(np.argmax(weights)), name)


@target_kind(
    "element", r"element:(?P<tensor>.+)\[(?P<indices>-?\d+(\s*,\s*-?\d+)*)\]", select_element
)
def element(tensors: Mapping[str, Any], tensor: str) -> Any:
    """The tensor itself."""
    return tensors[tensor]
