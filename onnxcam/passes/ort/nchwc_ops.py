"""Convolutions and pools on blocks of channels (NCHWc), as ONNX Runtime's layout optimizer writes them.

The operators of its domain com.microsoft.nchwc are for one kind of processor. They store channels in blocks of
8 or 16: a tensor (N, C, H, W) lies in memory as (N, C / block, H, W, block), with channels of zeros up to a
multiple of the block size. Decomposed, tensors and weights are (N, C, H, W) again; the channels of zeros stay.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from onnxcam.arrays import Array
from onnxcam.graph import anp
from onnxcam.graph.slicing import pad_axes, slice_axes
from onnxcam.graph.tracing import Value
from onnxcam.passes.ort.conv import channels_last as move_channels_last
from onnxcam.passes.ort.conv import channels_second, conv
from onnxcam.passes.ort.registry import NCHWC, decomposes


def unblock_weights(weights: Array, block: int) -> Array:
    """Weights of shape (M, C, kH, kW), from those stored in blocks. Input channels are not stored in blocks if
    they are fewer than a block.
    """
    m, c, *size = weights.shape
    if c < block:
        blocks = weights.reshape(m // block, c, *size, block)
        return np.moveaxis(blocks, -1, 1).reshape(weights.shape)
    blocks = weights.reshape(m // block, c // block, *size, block, block)
    return blocks.transpose(0, 5, 1, 4, 2, 3).reshape(weights.shape)


@decomposes("Conv", domain=NCHWC)
def _conv(
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
    weights = x.build.constant(unblock_weights(w.constant, block))
    return conv(x, weights, b, z, **attributes)


@decomposes("ReorderInput", domain=NCHWC)
def _reorder_input(x: Value, *, block: int, channels_last: int = 0) -> Value | None:
    y = channels_second(x) if channels_last else x
    channels = y.shape[1]
    if not isinstance(channels, int):
        return None
    return pad_axes(y, [0] * 4, [0, -channels % block, 0, 0])


@decomposes("ReorderOutput", domain=NCHWC)
def _reorder_output(x: Value, *, block: int, channels: int, channels_last: int = 0) -> Value:
    del block
    y = x if x.shape[1] == channels else slice_axes(x, [0], [channels], [1])
    return move_channels_last(y) if channels_last else y


def _add_pool(operator: str) -> None:
    @decomposes(operator, domain=NCHWC)
    def pool(x: Value, *, block: int, **attributes: Any) -> Value:
        del block
        return x.build.op(operator, x, **attributes)


for _operator in ("AveragePool", "MaxPool", "GlobalAveragePool", "GlobalMaxPool"):
    _add_pool(_operator)


@decomposes("Upsample", domain=NCHWC)
def _upsample(
    x: Value,
    *,
    block: int,
    scales: Sequence[int],
    mode: str = "nearest",
    coordinate_transformation_mode: str = "asymmetric",
) -> Value:
    """The nearest pixel is the one above and to the left."""
    del block
    build = x.build
    region = build.constant(np.zeros(0, np.float32)) if build.opset < 13 else None
    factors = build.constant(np.array(scales, np.float32))
    nearest: dict[str, Any] = {"nearest_mode": "floor"} if mode == "nearest" else {}
    modes: dict[str, Any] = {
        "mode": mode,
        "coordinate_transformation_mode": coordinate_transformation_mode,
    }
    return build.op("Resize", x, region, factors, **nearest, **modes)


# For broadcasting the runtime gives blocks an axis of their own: (N, C, H, W) as (N, C / block, H, W, block).
# `nchwc_block_size` names the two Reshapes that do and undo it.


@decomposes("SplitBlocks", domain=NCHWC)
def _split_blocks(x: Value, shape: Value, *, block: int, allowzero: int = 0) -> Value:
    del shape, allowzero
    split = anp.reshape(move_channels_last(x), [0, 0, 0, -1, block])
    return anp.transpose(split, [0, 3, 1, 2, 4])


@decomposes("MergeBlocks", domain=NCHWC)
def _merge_blocks(x: Value, shape: Value, *, block: int, allowzero: int = 0) -> Value:
    del shape, allowzero
    blocks = x.shape[1]
    channels = blocks * block if isinstance(blocks, int) else -1
    return channels_second(anp.reshape(anp.transpose(x, [0, 2, 3, 1, 4]), [0, 0, 0, channels]))
