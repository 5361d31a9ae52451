"""Convolutions and pools whose channels are stored in blocks, as ONNX Runtime's layout optimisation writes.

Its domain com.microsoft.nchwc is made for one kind of processor: channels come in blocks of 8 or 16, each block
a picture of its own whose cells hold that many numbers, and are filled up with zeros to whole blocks. Here the
kernels are put back in order, and the zero channels stay.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from onnxcam.arrays import Array
from onnxcam.graph import anp
from onnxcam.graph.slicing import pad_axes, slice_axes
from onnxcam.graph.tracing import Value
from onnxcam.passes.ort.conv import channels_last as turned_last
from onnxcam.passes.ort.conv import channels_second, convolution
from onnxcam.passes.ort.registry import NCHWC, decomposes


def in_order(kernels: Array, block: int) -> Array:
    """Blocked kernels (M, C, kH, kW) with the numbers where that shape says. Fewer input channels than a block
    are not blocked.
    """
    m, c, *size = kernels.shape
    if c < block:
        return np.moveaxis(kernels.reshape(m // block, c, *size, block), -1, 1).reshape(
            kernels.shape
        )
    parts = kernels.reshape(m // block, c // block, *size, block, block)
    return parts.transpose(0, 5, 1, 4, 2, 3).reshape(kernels.shape)


@decomposes("Conv", domain=NCHWC)
def _convolution(
    x: Value,
    w: Value,
    b: Value | None = None,
    z: Value | None = None,
    *,
    block: int,
    **attributes: Any,
) -> Any:
    if w.constant is None or w.ndim != 4:
        return None
    kernels = x.build.constant(in_order(w.constant, block))
    return convolution(x, kernels, b, z, **attributes)


@decomposes("ReorderInput", domain=NCHWC)
def _into_blocks(x: Value, *, block: int, channels_last: int = 0) -> Value | None:
    y = channels_second(x) if channels_last else x
    channels = y.shape[1]
    if not isinstance(channels, int):
        return None
    return pad_axes(y, [0] * 4, [0, -channels % block, 0, 0])


@decomposes("ReorderOutput", domain=NCHWC)
def _out_of_blocks(x: Value, *, block: int, channels: int, channels_last: int = 0) -> Value:
    del block
    y = x if x.shape[1] == channels else slice_axes(x, [0], [channels], [1])
    return turned_last(y) if channels_last else y


def _pool(operator: str) -> None:
    @decomposes(operator, domain=NCHWC)
    def pool(x: Value, *, block: int, **attributes: Any) -> Value:
        del block
        return x.build.op(operator, x, **attributes)


for _each in ("AveragePool", "MaxPool", "GlobalAveragePool", "GlobalMaxPool"):
    _pool(_each)


@decomposes("Upsample", domain=NCHWC)
def _enlarged(
    x: Value,
    *,
    block: int,
    scales: Sequence[int],
    mode: str = "nearest",
    coordinate_transformation_mode: str = "asymmetric",
) -> Value:
    """The nearest pixel is that above and to the left."""
    del block
    build = x.build
    region = build.constant(np.zeros(0, np.float32)) if build.opset < 13 else None
    factors = build.constant(np.array(scales, np.float32))
    more: dict[str, Any] = {"nearest_mode": "floor"} if mode == "nearest" else {}
    more |= {"mode": mode, "coordinate_transformation_mode": coordinate_transformation_mode}
    return build.op("Resize", x, region, factors, **more)


# Where the runtime broadcasts it shows the cells as an axis: (N, C, H, W) as (N, C / block, H, W, block)


@decomposes("IntoCells", domain=NCHWC)
def _into_cells(x: Value, shape: Value, *, block: int, allowzero: int = 0) -> Value:
    del shape, allowzero
    last = anp.reshape(turned_last(x), [0, 0, 0, -1, block])
    return anp.transpose(last, [0, 3, 1, 2, 4])


@decomposes("OutOfCells", domain=NCHWC)
def _out_of_cells(x: Value, shape: Value, *, block: int, allowzero: int = 0) -> Value:
    del shape, allowzero
    blocks = x.shape[1]
    channels = blocks * block if isinstance(blocks, int) else -1
    return channels_second(anp.reshape(anp.transpose(x, [0, 2, 3, 1, 4]), [0, 0, 0, channels]))
