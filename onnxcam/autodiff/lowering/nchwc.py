"""What ONNX Runtime's CPU provider computes in the blocked layout of its convolutions. There, what counts is
how often a tensor is read and written, and how often it changes its layout: a broadcast leaves it, and a
convolution of each channel by itself, with a kernel of one cell, is a line that stays in it.
"""

from __future__ import annotations

import onnx_graphsurgeon as gs

from onnxcam.arrays import Shape
from onnxcam.autodiff.lowering.masks import FLOAT, STEEP, hard_sigmoid
from onnxcam.autodiff.lowering.strided_conv import RESIZE_WITHOUT_REGION, repeat_nearest, static_dim
from onnxcam.graph.dims import is_static
from onnxcam.graph.tracing import PREFIX
from onnxcam.graph.value import Value, np

BLOCK = 16  # channels, at most: of whole blocks every channel by itself is convolved in the layout
READS = {  # the operators that stay in the layout, and how many inputs must be there
    **dict.fromkeys(("BatchNormalization", "Clip", "HardSigmoid", "Relu", "Sigmoid", "Tanh"), 1),
    **dict.fromkeys(("Add", "Mul"), 2),
}
LARGEST_HALF = 65504.0  # the largest float16, whose mantissa is that of TF32
NEAR = 3  # operators between a picture and the convolution that it comes from


def is_blocked(x: Value) -> bool:
    """Whether a float32 picture comes out of a convolution, by way of operators that stay in its layout."""
    channels = x.shape[1] if x.dtype == FLOAT and x.ndim == 4 else None
    whole = isinstance(channels, int) and channels > 0 and channels % BLOCK == 0
    return whole and _of_convolution(x.tensor, x.shape, NEAR)


def _writer(tensor: gs.Tensor) -> gs.Node | None:
    return tensor.inputs[0] if tensor.inputs else None


def _of_convolution(tensor: gs.Tensor, shape: Shape, depth: int) -> bool:
    node = _writer(tensor)
    if node is None or node.op == "Conv" or not depth:
        return node is not None and node.op == "Conv"
    read = node.inputs[: READS.get(node.op, 0)]
    return bool(read) and all(
        tuple(each.shape or ()) == shape and _of_convolution(each, shape, depth - 1)
        for each in read
    )


def affine_1x1(x: Value, slope: float, offset: float = 0.0) -> Value:
    """slope x + offset; the sum or the activation behind it is done in the same pass over memory."""
    channels = static_dim(x.shape[1])
    kernel = x.build.constant(np.full((channels, 1, 1, 1), slope), x.dtype)
    bias = x.build.constant(np.full(channels, offset), x.dtype)
    return x.build.op("Conv", x, kernel, bias, group=channels, kernel_shape=[1, 1])


def factors(product: Value) -> tuple[Value, Value] | None:
    """a and b of what is written as a b."""
    return _operands(product, "Mul")


def _operands(value: Value, operator: str) -> tuple[Value, Value] | None:
    node = _writer(value.tensor)
    if node is None or node.op != operator or len(node.inputs) != 2:
        return None
    a, b = (Value(value.build, each) for each in node.inputs)
    return a, b


def with_product(a: Value, b: Value) -> Value | None:
    """a + b where b is a (line + x), as a (1 + line + x): at no cost, in the line's offset."""
    pair = factors(b)
    if pair is None or pair[0].name != a.name or (total := _operands(pair[1], "Add")) is None:
        return None
    written, x = _writer(total[0].tensor), total[1]
    if written is None or written.attrs.get("kernel_shape") != [1, 1] or len(written.inputs) != 3:
        return None
    read, kernel, bias = (Value(a.build, each) for each in written.inputs)
    # a line of the model's own would be computed twice
    ours = written.op == "Conv" and written.name.startswith(PREFIX)
    if not ours or kernel.constant is None or kernel.shape[1] != 1 or bias.constant is None:
        return None
    more = a.build.constant(bias.constant + 1, bias.dtype)
    return a * (a.build.op("Conv", read, kernel, more, **written.attrs) + x)


def mask_between(x: Value, low: Value | float, high: Value | float) -> Value | None:
    """1 where low < x < high and 0 elsewhere, exactly; None where two steps are faster, or all there is.

    V is a V over x that comes to `high` at both bounds. Where they are 0 and `high` it turns at 2**-100, which
    rounds no other x: it has fallen to 0 there, and is x from there on. GPUs may convolve in TF32, so `high`
    must be a number of its eleven bits: else what is cut there would come out below it.
    """
    if isinstance(low, Value) or isinstance(high, Value) or not is_blocked(x):
        return None
    if not 0 < high <= LARGEST_HALF or high != float(np.float16(high)) or low not in (0.0, -high):
        return None
    turn, slope = (0.0, -1.0) if low else (1 / STEEP, -high * STEEP)
    v = x.build.op("LeakyRelu", affine_1x1(x, 1.0, -turn), alpha=slope)
    return hard_sigmoid(v, -STEEP, STEEP * high)


def broadcast_spatial(value: Value, like: Value) -> Value | None:
    """A number a channel (N, C, 1, 1) in every pixel of a picture; None where that leaves the layout."""
    known = value.build.opset >= RESIZE_WITHOUT_REGION and is_static(like.shape[1:])
    if (
        not known
        or value.shape == like.shape
        or value.shape != (*like.shape[:2], 1, 1)
        or not is_blocked(value)
    ):
        return None
    return repeat_nearest(value, [static_dim(each) for each in like.shape[2:]])


def sum_spatial(x: Value) -> Value | None:
    """The sum (N, C, 1, 1) over the pixels; None where that leaves the layout."""
    if not is_blocked(x) or not is_static(x.shape[1:]):
        return None
    return affine_1x1(x.build.op("GlobalAveragePool", x), float(np.prod(x.shape[2:])))
