"""DeformConv (Dai et al. 2017, Zhu et al. 2018) as GridSample at the shifted positions of the kernel, times the
mask, and a product with the weights.

ONNX has no function body for it; a gradient passes through this decomposition.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_graphsurgeon as gs

from onnxcam.errors import ModelError
from onnxcam.graph import anp
from onnxcam.graph.attributes import argument
from onnxcam.graph.dims import is_static
from onnxcam.graph.slicing import arange, dim_size
from onnxcam.graph.tracing import Value
from onnxcam.graph.window import Window
from onnxcam.passes.decomposition import Stage, decomposes

Y, X = 0, 1  # the order of offsets


@decomposes("DeformConv", stage=Stage.GRADIENT)
def deform_conv(
    x: Value,
    w: Value,
    offset: Value,
    bias: Value | None = None,
    mask: Value | None = None,
    *,
    node: gs.Node,
    **attributes: Any,
) -> Value | None:
    """The output of a DeformConv; None for tensors that are not (N, C, H, W). ModelError if the number of
    channels or the size of the kernel is not fixed.
    """
    del attributes  # read from the node
    if x.ndim != len("NCHW"):
        return None
    build, channels = x.build, x.shape[1]
    kernels: Any = w.shape
    window = Window.from_node(node, build.opset)
    if window is None or not isinstance(channels, int) or not is_static(kernels):
        raise ModelError(
            f"the DeformConv that reads {node.inputs[0].name!r} needs a fixed number of channels and weights "
            "of fixed size; export the model with fixed sizes"
        )
    groups, offset_groups = (
        argument(node, name, build.opset) for name in ("group", "offset_group")
    )
    taps = int(np.prod(window.kernel))
    rows, columns = (dim_size(offset, axis) for axis in (2, 3))
    group_size = build.constant([channels // offset_groups])
    # the offset groups go to the batch axis, and the taps of the kernel to the rows
    images = _reshape(x, [-1], group_size, dim_size(x, 2), dim_size(x, 3))
    grid = _reshape(_sampling_grid(x, offset, window), [0, -1], columns, [2])
    samples = build.op("GridSample", images, grid, padding_mode="zeros", align_corners=0)
    if mask is not None:
        samples = samples * _reshape(mask, [-1, 1], rows * build.constant([taps]), columns)
    inner = kernels[1] * taps
    patches = _reshape(samples, [-1, groups, inner], rows * columns)
    products = anp.reshape(w, [groups, -1, inner]) @ patches
    y = _reshape(products, [0, kernels[0]], rows, columns)
    return y if bias is None else y + anp.reshape(bias, [-1, 1, 1])


def _sampling_grid(x: Value, offset: Value, window: Window) -> Value:
    """Where every tap of the kernel reads, from -1 to 1: (N offset groups, taps, rows, columns, 2)."""
    taps = int(np.prod(window.kernel))
    sizes = [dim_size(offset, axis) for axis in (2, 3)]
    offsets = _reshape(offset, [-1, taps, 2], *sizes)
    positions = [
        (2.0 * _sample_positions(offsets, window, axis, sizes[axis]) + 1.0)
        / _cast_like(dim_size(x, axis + 2), offsets)
        for axis in (X, Y)
    ]
    scaled = [anp.expand_dims(position - 1.0, -1) for position in positions]
    return anp.concatenate(scaled, axis=-1)


def _sample_positions(offsets: Value, window: Window, axis: int, size: Value) -> Value:
    """Where the taps read along an axis, in pixels: (N offset groups, taps, rows, columns)."""
    build, begin = offsets.build, window.begin[axis]
    taps = np.indices(window.kernel)[axis].reshape(-1, 1, 1) * window.dilations[axis] - begin
    starts = _cast_like(arange(size) * build.constant([window.strides[axis]]), offsets)
    starts = anp.expand_dims(starts, 1) if axis == Y else starts
    shifts = build.op("Gather", offsets, build.constant(np.array(axis)), axis=2)
    return shifts + (starts + offsets.constant_like(taps.astype(np.float32)))


def _cast_like(value: Value, like: Value) -> Value:
    return value.astype(like.dtype)


def _reshape(value: Value, *sizes: object) -> Value:
    """The value in a shape of numbers and of sizes that may be known at run time only."""
    build = value.build
    parts = [size if isinstance(size, Value) else build.constant(size) for size in sizes]
    target = anp.concatenate(parts) if len(parts) > 1 else parts[0]
    rank = sum(int(dims.shape[0] or 0) for dims in parts)
    return build.op("Reshape", value, target, shape=(None,) * rank)
