"""The axes that reductions, pools and normalizations work over, and how many elements these hold."""

from __future__ import annotations

from collections.abc import Sequence

from onnxcam.graph.slicing import dim_size
from onnxcam.graph.value import Value, np


def spatial_axes(x: Value) -> tuple[int, ...]:
    """The axes after batch and channel."""
    return tuple(range(2, x.ndim))


def element_count(x: Value, axes: Sequence[int]) -> Value | float:
    """The product of the sizes of some axes; a Value in the dtype of x where it is known at run time only."""
    sizes = [x.shape[axis] for axis in axes]
    if all(isinstance(size, int) for size in sizes):
        return float(np.prod([float(size) for size in sizes if isinstance(size, int)]))
    total = dim_size(x, axes[0])
    for axis in axes[1:]:
        total = total * dim_size(x, axis)
    return total.astype(x.dtype)
