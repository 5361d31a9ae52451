"""The blocked layout (NCHWc) of ONNX Runtime's convolutions on CPUs, and forms that stay in it.

In this layout the costs are how often a tensor is read and written, and how often it is converted to NCHW and
back. A broadcast leaves the layout. A depthwise Conv with a kernel of one cell computes an affine function
within it.
"""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from onnxcam.arrays import FLOAT32, Shape
from onnxcam.autodiff.lowering.masks import STEEP, hard_sigmoid
from onnxcam.autodiff.lowering.strided_conv import static_dim
from onnxcam.graph.operators import traits_of
from onnxcam.graph.reachability import producer
from onnxcam.graph.tracing import Value

BLOCK = 16  # channels, at most; a depthwise Conv stays in the layout if they are a multiple of it
LARGEST_HALF = 65504.0  # the largest float16, whose mantissa is that of TF32
NEAR = 3  # operators between a tensor and the convolution that it comes from


def is_blocked(x: Value) -> bool:
    """Whether a float32 (N, C, H, W) comes from a convolution through operators that stay in its layout."""
    channels = x.shape[1] if x.dtype == FLOAT32 and x.ndim == 4 else None
    full_blocks = isinstance(channels, int) and channels > 0 and channels % BLOCK == 0
    return full_blocks and _comes_from_conv(x.tensor, x.shape, NEAR)


def _comes_from_conv(tensor: gs.Tensor, shape: Shape, depth: int) -> bool:
    node = producer(tensor)
    if node is None or node.op == "Conv" or not depth:
        return node is not None and node.op == "Conv"
    traits = traits_of(node)
    count = 2 if traits.elementwise == "broadcasting" else 1  # other inputs are settings
    return traits.stays_in_nchwc and all(
        tuple(tensor.shape or ()) == shape and _comes_from_conv(tensor, shape, depth - 1)
        for tensor in node.inputs[:count]
    )


def affine_1x1(x: Value, slope: float, offset: float = 0.0) -> Value:
    """slope x + offset; a sum or an activation after it is done in the same pass over memory."""
    channels = static_dim(x.shape[1])
    kernel = x.build.constant(np.full((channels, 1, 1, 1), slope), x.dtype)
    bias = x.build.constant(np.full(channels, offset), x.dtype)
    return x.build.op("Conv", x, kernel, bias, group=channels, kernel_shape=[1, 1])


def mask_between(x: Value, low: float, high: float) -> Value | None:
    """1 where low < x < high and 0 elsewhere, exactly; None where two steps are faster, or the only form.

    The mask is one step over v(x), which is V-shaped and equals `high` at both bounds. For the bounds 0 and
    `high` it turns at 2**-100, which rounds no other x: v is 0 at the turn, and x above it. GPUs may convolve
    in TF32, so `high` must be a number with eleven bits; else what is clipped to it would come out below it.
    """
    if not is_blocked(x):
        return None
    if not 0 < high <= LARGEST_HALF or high != float(np.float16(high)) or low not in (0.0, -high):
        return None
    turn, slope = (0.0, -1.0) if low else (1 / STEEP, -high * STEEP)
    v = x.build.op("LeakyRelu", affine_1x1(x, 1.0, -turn), alpha=slope)
    return hard_sigmoid(v, -STEEP, STEEP * high)
