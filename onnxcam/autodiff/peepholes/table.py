"""The patterns, each with the reason why the replacement is faster, as measured on ONNX Runtime's CPU provider.

Words of one letter are tensors: g and h are cotangents. Most patterns keep a gradient in the blocked layout
(NCHWc) in which the runtime convolves: leaving it and coming back costs two passes over memory.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs

from onnxcam.arrays import FLOAT32, Floats
from onnxcam.autodiff.lowering.masks import hard_sigmoid, level_of, step_bound
from onnxcam.autodiff.lowering.strided_conv import (
    RESIZE_WITHOUT_REGION,
    repeat_nearest,
    static_dim,
)
from onnxcam.autodiff.peepholes.nchwc import affine_1x1, is_blocked, mask_between
from onnxcam.autodiff.peepholes.pattern import Peephole, node
from onnxcam.graph.dims import is_static
from onnxcam.graph.reachability import producer
from onnxcam.graph.slicing import PRECISE
from onnxcam.graph.tracing import Value

# What is known about a tensor


def is_written_by(value: Value, operator: str) -> bool:
    """Whether a node with this operator writes a value."""
    node = producer(value.tensor)
    return node is not None and node.op == operator


def writer(value: Value) -> gs.Node:
    """The node that writes a value."""
    return value.tensor.inputs[0]


def attributes(value: Value) -> dict[str, Any]:
    """The attributes of the node that writes a value."""
    return writer(value).attrs


def uniform_number(value: Value) -> float | None:
    """The number that all elements of a constant equal."""
    array = value.constant if isinstance(value.tensor, gs.Constant) else None
    if array is None or not array.size or np.any(array != array.flat[0]):
        return None
    return float(array.flat[0])


def has_one_reader(*values: Value) -> bool:
    """Whether each of the values is read once only."""
    return all(len(value.tensor.outputs) == 1 for value in values)


# Masks and slopes


def complement(one: Value, s: Value) -> Value | None:
    """1 - s as a HardSigmoid, exact for 0 <= s <= 1: the constant of a Sub leaves the blocked layout."""
    is_bounded = s.dtype == FLOAT32 and is_written_by(s, "Sigmoid")
    return hard_sigmoid(s, -1.0, 1.0) if is_bounded and is_scalar(one, 1.0) else None


def is_scalar(value: Value, number: float) -> bool:
    """Whether a value is one constant number."""
    return value.shape == () and uniform_number(value) == number


def step_between(y: Value, above: Value, below: Value) -> Value | None:
    """Two steps as one step over a V-shaped function: one pass over memory less. Not for a single cell."""
    low, high = step_bound(writer(above), 1), step_bound(writer(below), -1)
    if low is None or high is None or y.shape[2:] == (1, 1):
        return None
    return mask_between(y, low, high)


def masked_line(z: Value, x: Value, mask: Value, share: Value) -> Value | None:
    """z + x (a mask), as in the slope of HardSwish: the Conv of a x takes the sum into its own pass."""
    a = level_of(writer(share))
    if a is None or not is_written_by(mask, "HardSigmoid"):
        return None
    return affine_1x1(x * mask, a) + z if is_blocked(x) else None


# Products


def gate_slope(h: Value, x: Value, s: Value, c: Value) -> Value | None:
    """(h x) (s (1 - s)), the gradient of a gate as in SiLU: the model has computed x s already. In the blocked
    layout x s (1 - s) = s (x - x s), whose difference the Conv of -x s takes into its own pass.
    """
    product = product_in_model(x, s)
    if product is None or not is_complement(c, s):
        return None
    if is_blocked(x):
        return h * (s * (affine_1x1(product, -1.0) + x))
    return h * (product * c)


def product_in_model(x: Value, y: Value) -> Value | None:
    """The first product x y or y x in the graph."""
    factors = {id(x.tensor), id(y.tensor)}
    for reader in y.tensor.outputs:
        if reader.op == "Mul" and {id(tensor) for tensor in reader.inputs} == factors:
            return Value(x.build, reader.outputs[0])
    return None


def is_complement(c: Value, s: Value) -> bool:
    """Whether c is 1 - s."""
    node = producer(c.tensor)
    if node is None or node.inputs[-1] is not s.tensor:
        return False
    if node.op == "HardSigmoid":
        return bool(node.attrs.get("alpha") == -1 and node.attrs.get("beta") == 1)
    return node.op == "Sub" and is_scalar(Value(s.build, node.inputs[0]), 1.0)


def add_one_to_line(
    h: Value, a: Value, x: Value, kernel: Value, bias: Value, line: Value, z: Value
) -> Value | None:
    """h a + h a (line + z) = h a (1 + line + z): no pass over memory at all, because 1 goes into the bias."""
    if kernel.shape[1:] != (1, 1, 1) or bias.constant is None or not has_one_reader(line):
        return None
    bias = h.build.constant(bias.constant + 1, bias.dtype)
    raised = h.build.op("Conv", x, kernel, bias, **attributes(line))
    return h * (a * (raised + z))


def factor_out(h: Value, a: Value, b: Value) -> Value | None:
    """h a + h b = h (a + b): one pass over memory less, and a + b may be computed before h."""
    if h.dtype not in PRECISE or not h.shape == a.shape == b.shape:
        return None
    return h * (a + b)


# Convolutions


def scale_kernel(x: Value, kernel: Value, g: Value, c: Value) -> Value | None:
    """A factor per channel, as of BatchNormalization, goes into the kernel of the Conv before it."""
    factors = per_channel(c, g)
    return None if factors is None else scaled_conv(x, kernel, g, factors)


def scale_masked_kernel(
    x: Value, kernel: Value, conv: Value, mask: Value, g: Value, c: Value
) -> Value | None:
    """The same across the mask of an activation."""
    factors = per_channel(c, conv) if has_one_reader(g) and conv.shape == g.shape else None
    scaled = None if factors is None else scaled_conv(x, kernel, conv, factors)
    return None if scaled is None else scaled * mask


def divide_kernel(x: Value, kernel: Value, g: Value, n: Value) -> Value | None:
    """The same for a division by one number."""
    divisor = uniform_number(n) if n.shape == () else None
    return scaled_conv(x, kernel, g, 1 / divisor) if divisor else None


def per_channel(c: Value, g: Value) -> Floats | None:
    """A constant with one number per channel of g, or one for all, as float64 (C or 1, 1, ...)."""
    if not isinstance(c.tensor, gs.Constant) or c.ndim > g.ndim:
        return None
    sizes = (1,) * (g.ndim - c.ndim) + c.shape
    if any(size != 1 for axis, size in enumerate(sizes) if axis != 1) or c.constant is None:
        return None
    return c.constant.astype(np.float64).reshape(-1, *[1] * (g.ndim - 1))


def scaled_conv(x: Value, kernel: Value, g: Value, factors: Floats | float) -> Value | None:
    """The Conv that computes g alone, with every output channel times its factor."""
    if kernel.constant is None or not has_one_reader(g):
        return None
    kernel = g.build.constant(kernel.constant.astype(np.float64) * factors, kernel.dtype)
    return g.build.op("Conv", x, kernel, **attributes(g))


# Broadcasts and sums over the spatial axes


def repeat_scaled(x: Value, kernel: Value, g: Value, c: Value) -> Value | None:
    """A gradient that is divided evenly among the cells: Resize stays in the blocked layout, and the divisor
    goes into the kernel of the Conv before it.
    """
    cells = spatial_sizes(c, g)
    if cells is None or (factor := uniform_number(c)) is None or not is_blocked(g):
        return None
    scaled = scaled_conv(x, kernel, g, factor)
    return None if scaled is None else repeat_nearest(scaled, cells)


def repeat_masked(
    x: Value, kernel: Value, conv: Value, mask: Value, g: Value, c: Value
) -> Value | None:
    """The same across the mask of an activation."""
    cells = spatial_sizes(c, g) if has_one_reader(g) else None
    if cells is None or (factor := uniform_number(c)) is None or not is_blocked(g):
        return None
    scaled = scaled_conv(x, kernel, conv, factor)
    return None if scaled is None else repeat_nearest(scaled * mask, cells)


def repeat_expanded(g: Value, y: Value) -> Value | None:
    """Resize for Expand over the spatial axes, because it stays in the blocked layout."""
    cells = spatial_sizes(y, g) if y.shape[:2] == g.shape[:2] else None
    return repeat_nearest(g, cells) if cells is not None and is_blocked(g) else None


def repeat_gate(g: Value, f: Value) -> Value | None:
    """A gate f, one number per channel, is repeated first: a product that broadcasts leaves the layout."""
    if g.shape[:2] != f.shape[:2] or f.dtype != g.dtype:
        return None
    cells = spatial_sizes(g, f)
    are_blocked = cells is not None and is_blocked(g) and is_blocked(f)
    return g * repeat_nearest(f, cells) if are_blocked and cells else None


def spatial_sizes(wide: Value, narrow: Value) -> list[int] | None:
    """The cells (H, W) of a tensor that broadcasts (N, C, 1, 1), if more than one and written as Resize."""
    if narrow.build.opset < RESIZE_WITHOUT_REGION or narrow.ndim != 4 or wide.ndim != 4:
        return None
    sizes = wide.shape[2:]
    if narrow.shape[2:] != (1, 1) or sizes == (1, 1) or not is_static((narrow.shape[1], *sizes)):
        return None
    return [static_dim(size) for size in sizes]


def sum_by_pooling(x: Value, y: Value, axes: Value | None = None) -> Value | None:
    """A sum over the cells, as of a gate's cotangent: a pool stays in the blocked layout."""
    numbers = attributes(y).get("axes", []) if axes is None else axes.constant
    if numbers is None or list(numbers) != [2, 3] or not attributes(y).get("keepdims", 1):
        return None
    if not is_blocked(x) or not is_static(x.shape[1:]):
        return None
    return affine_1x1(x.build.op("GlobalAveragePool", x), math.prod(map(static_dim, x.shape[2:])))


CONV = node("Conv", "x", "kernel", name="g")
MASKED_CONV = node("Mul", node("Conv", "x", "kernel", name="conv"), "mask", name="g")
LINE = node("Conv", "x", "kernel", "bias", name="line")
ABOVE, BELOW = (node("HardSigmoid", "y", name=word) for word in ("above", "below"))
SHARE = node("HardSigmoid", "mask", name="share")

PEEPHOLES = (
    Peephole(node("Sub", "one", "s"), complement),
    Peephole(node("Mul", ABOVE, BELOW), step_between),
    Peephole(node("Add", "z", node("Mul", "x", SHARE)), masked_line),
    Peephole(node("Mul", node("Mul", "h", "x"), node("Mul", "s", "c")), gate_slope),
    Peephole(
        node(
            "Add", node("Mul", "h", "a"), node("Mul", "h", node("Mul", "a", node("Add", LINE, "z")))
        ),
        add_one_to_line,
    ),
    Peephole(node("Add", node("Mul", "h", "a"), node("Mul", "h", "b")), factor_out),
    Peephole(node("Mul", CONV, "c"), scale_kernel),
    Peephole(node("Mul", MASKED_CONV, "c"), scale_masked_kernel),
    Peephole(node("Div", CONV, "n"), divide_kernel),
    Peephole(node("Mul", CONV, "c"), repeat_scaled),
    Peephole(node("Mul", MASKED_CONV, "c"), repeat_masked),
    Peephole(node("Expand", "g", "_", name="y"), repeat_expanded),
    Peephole(node("Mul", "g", "f"), repeat_gate),
    Peephole(node("ReduceSum", "x", "axes", name="y"), sum_by_pooling),
    Peephole(node("ReduceSum", "x", name="y"), sum_by_pooling),
)
