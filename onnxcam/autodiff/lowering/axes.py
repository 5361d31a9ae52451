"""The axes that reductions, pools and normalizations work over, and the gradient of a mean over them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from onnxcam.graph.slicing import broadcast_like, dim_size
from onnxcam.graph.tracing import Value


def spatial_axes(x: Value) -> tuple[int, ...]:
    """The axes after batch and channel."""
    return tuple(range(2, x.ndim))


def element_count(x: Value, axes: Sequence[int]) -> Value | float:
    """The product of the sizes of some axes; a Value in the dtype of x where it is known at run time only."""
    sizes = [size for axis in axes if isinstance(size := x.shape[axis], int)]
    if len(sizes) == len(axes):
        return float(math.prod(sizes))
    total = dim_size(x, axes[0])
    for axis in axes[1:]:
        total = total * dim_size(x, axis)
    return total.astype(x.dtype)


def divide_evenly(g: Value, x: Value, axes: Sequence[int]) -> Value:
    """g / n for each of the n elements of x that were averaged."""
    n = element_count(x, axes)
    return broadcast_like(g, x, n) if isinstance(n, float) else broadcast_like(g / n, x)
