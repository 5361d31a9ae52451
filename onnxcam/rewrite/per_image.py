"""What goes to no input by the rules of a backward pass: its sum for each image, of tensors of any shape."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onnxcam.graph import anp
from onnxcam.graph.slicing import dim_size
from onnxcam.graph.tracing import Value
from onnxcam.rewrite.loss_scale import accumulation_dtype

ABSORBED = "onnxcam/absorbed"


def absorbed_at(rules: str = "") -> str:
    """The name of the output (N,) that holds what went to no input, by the table of rules of the method unless
    another one is named.
    """
    return f"{ABSORBED}/{rules}" if rules else ABSORBED


def add_per_image(values: Sequence[Value], seed: Value) -> Value:
    """(N,): the sum of all numbers of each image. `seed` has the N images along its first axis."""
    sums = [_sum(value.astype(accumulation_dtype(value.dtype)), seed) for value in values]
    if not sums:
        return _sum(seed, seed) * 0.0
    return sum((one.astype(sums[0].dtype) for one in sums[1:]), start=sums[0])


def _sum(value: Value, seed: Value) -> Value:
    """The images lie along the axis of their number; where no axis is known to be it, along the first, perhaps
    as several rows of one image (windows).
    """
    batch = seed.shape[0]
    axes = [axis for axis, dim in enumerate(value.shape) if dim is not None and dim == batch]
    if isinstance(batch, int) or len(axes) != 1:
        axes = [0] if value.shape[:1] == (batch,) else []
    if axes:
        others = tuple(axis for axis in range(value.ndim) if axis != axes[0])
        return anp.sum(value, axis=others) if others else value
    build = seed.build
    rest = build.constant(np.array([-1], np.int64))
    rows = build.op("Concat", dim_size(seed, 0), rest, axis=0)
    return anp.sum(build.op("Reshape", value, rows, shape=(batch, None)), axis=1)
