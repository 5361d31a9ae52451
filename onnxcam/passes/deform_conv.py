"""DeformConv (Dai et al. 2017, Zhu et al. 2018) as what it means: GridSample where each cell of the kernel
looks, times the mask, and a product with the weights.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_graphsurgeon as gs

from onnxcam.errors import ModelError
from onnxcam.graph import anp
from onnxcam.graph.attributes import argument
from onnxcam.graph.dims import is_static
from onnxcam.graph.slicing import dim_size
from onnxcam.graph.tracing import Builder, Value
from onnxcam.graph.window import Window

Y, X = 0, 1  # the order of offsets


def deform_conv(build: Builder, node: gs.Node, given: list[Value | None]) -> Value | None:
    """What a DeformConv writes, of its inputs as Values; None for other than pictures. ModelError where its
    channels or its kernel are not fixed.
    """
    x, w, offset, bias, mask = (*given, None, None)[:5]
    if x is None or w is None or offset is None or x.ndim != len("NCHW"):
        return None
    width: Any = x.shape[1]
    kernels: Any = w.shape
    window = Window.from_node(node, build.opset)
    if window is None or not is_static((width, *kernels)):
        raise ModelError(
            f"the DeformConv that reads {node.inputs[0].name!r} needs a fixed number of channels and weights "
            "of fixed size: export it with both"
        )
    groups, offsets = (argument(node, each, build.opset) for each in ("group", "offset_group"))
    cells = int(np.prod(window.kernel))
    rows, columns = (dim_size(offset, axis) for axis in (2, 3))
    channels = build.constant([width // offsets])
    apart = _reshaped(x, [-1], channels, dim_size(x, 2), dim_size(x, 3))
    grid = _reshaped(_grid(x, offset, window), [0, -1], columns, [2])
    seen = build.op("GridSample", apart, grid, padding_mode="zeros", align_corners=0)
    if mask is not None:
        seen = seen * _reshaped(mask, [-1, 1], rows * build.constant([cells]), columns)
    inner = kernels[1] * cells
    table = _reshaped(seen, [-1, groups, inner], rows * columns)
    found = anp.reshape(w, [groups, -1, inner]) @ table
    y = _reshaped(found, [0, kernels[0]], rows, columns)
    return y if bias is None else y + anp.reshape(bias, [-1, 1, 1])


def _grid(x: Value, offset: Value, window: Window) -> Value:
    """Where each cell of the kernel looks, from every place: (N groups, cells, rows, columns, 2), -1 to 1."""
    cells = int(np.prod(window.kernel))
    sizes = [dim_size(offset, axis) for axis in (2, 3)]
    moved = _reshaped(offset, [-1, cells, 2], *sizes)
    along = [
        (2.0 * _places(moved, window, axis, sizes[axis]) + 1.0)
        / _float(dim_size(x, axis + 2), moved)
        for axis in (X, Y)
    ]
    return anp.concatenate([anp.expand_dims(each - 1.0, -1) for each in along], axis=-1)


def _places(moved: Value, window: Window, axis: int, size: Value) -> Value:
    """Where they look along an axis, in cells: (N groups, cells, rows, columns)."""
    build, begin = moved.build, window.begin[axis]
    own = np.indices(window.kernel)[axis].reshape(-1, 1, 1) * window.dilations[axis] - begin
    zero, one = build.constant(np.array(0)), build.constant(np.array(1))
    number = build.op("Range", zero, anp.reshape(size, []), one) * build.constant(
        [window.strides[axis]]
    )
    start = anp.expand_dims(_float(number, moved), 1) if axis == Y else _float(number, moved)
    offsets = build.op("Gather", moved, build.constant(np.array(axis)), axis=2)
    return offsets + (start + moved.constant_like(own.astype(np.float32)))


def _float(value: Value, like: Value) -> Value:
    return value.astype(like.dtype)


def _reshaped(value: Value, *sizes: object) -> Value:
    """The value in a shape of numbers, and of sizes that may be known at run time only."""
    build = value.build
    parts = [each if isinstance(each, Value) else build.constant(each) for each in sizes]
    target = anp.concatenate(parts) if len(parts) > 1 else parts[0]
    rank = sum(int(part.shape[0] or 0) for part in parts)
    return build.op("Reshape", value, target, shape=(None,) * rank)
