"""Layers: flat for the first ones, z+ in convolutions, epsilon in products with weights.

These are the rules of zennit's EpsilonPlusFlat (Anders et al. 2021, arXiv:2106.13200; Kohlbrenner et al. 2020,
arXiv:1910.09840). All of them concern the linear operator together with what is merged with it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from onnxcam.arrays import FLOAT32, Floats
from onnxcam.autodiff.lowering.standardization import to_float32
from onnxcam.autodiff.rule_table import Absorb, Rules, Vjp, with_parameter
from onnxcam.autodiff.rules import DEFAULT
from onnxcam.autodiff.rules.linalg import write_gemm
from onnxcam.autodiff.tables._lrp.constants import constant_slot, is_image
from onnxcam.autodiff.tables._lrp.merging import Affine, affine_after, is_before_layers
from onnxcam.autodiff.tables._lrp.nonnegative import is_nonnegative
from onnxcam.autodiff.tables._lrp.shares import EPSILON, divide
from onnxcam.graph import anp
from onnxcam.graph.constants import constant_values
from onnxcam.graph.dims import is_static
from onnxcam.graph.slicing import full_like
from onnxcam.graph.tracing import Value

rules = Rules()


def folded(function: Callable[[Any], Any], value: Value) -> Value:
    """A function of a value; of a constant, another constant, which gradients of convolutions rely on."""
    if value.constant is None or isinstance(value.dtype, int):
        result: Value = function(value)
        return result
    return value.build.constant(function(value.constant.astype(np.float64)), value.dtype)


def wide(value: Value) -> Value:
    """Float16 as float32: a relevance over a number near 0 is more than float16 holds."""
    if value.dtype == np.float16 and value.constant is not None:
        return value.build.constant(value.constant, FLOAT32)
    return to_float32(value)


# Convolutions


def convolution(operator: str) -> Vjp:
    """The rule of Conv or ConvTranspose, whose gradient is linear in the kernel."""
    (vjp,) = DEFAULT[operator].functions
    assert vjp is not None  # noqa: S101

    @with_parameter(vjp, "absorb")
    def convolution_vjp(
        r: Value,
        y: Value,
        x: Value,
        w: Value,
        b: Value | None,
        *,
        group: int,
        absorb: Absorb,
        **settings: Any,
    ) -> Value:
        """Flat at the first, else z+ (Montavon et al. 2017): x+ w+ and x- w-, as parts of their sum."""

        r, x, w = wide(r), wide(x), wide(w)
        b = None if b is None else wide(b)

        def forward(x: Value, kernel: Value, bias: Value | None = None) -> Value:
            return x.build.op(operator, x, kernel, bias, **y.tensor.inputs[0].attrs)

        def back(part: Value, kernel: Value) -> Value:
            return vjp(part, y, x, kernel, None, group=group, **settings)

        if is_before_layers(x.tensor):
            ones = full_like(w, 1.0)
            return back(r / (forward(_ones(x), ones) + EPSILON), ones)
        affine = affine_after(y)
        bias, kernel = (
            _positive_bias(affine, w, b),
            _scaled_kernel(operator, w, affine.scale, group),
        )
        up = folded(lambda kernel: anp.maximum(kernel, 0.0), kernel)
        z, negative = forward(_positive(x), up, bias), None
        if not is_nonnegative(x.tensor, x.build.opset):
            down = folded(lambda kernel: anp.minimum(kernel, 0.0), kernel)
            negative = anp.minimum(x, 0.0)
            z = z + forward(negative, down)
        part = r / (z + EPSILON)
        lost = EPSILON if bias is None else bias + EPSILON  # all of r where no input adds to y
        absorb(anp.sum(part, axis=tuple(range(2, part.ndim))) * lost)
        relevance = _positive(x) * back(part, up)
        return relevance if negative is None else relevance + negative * back(part, down)

    return convolution_vjp


def _positive(x: Value) -> Value:
    """The positive part; x itself where it is known to be that."""
    if is_nonnegative(x.tensor, x.build.opset):
        return x
    return anp.maximum(x, 0.0)


def _ones(x: Value) -> Value:
    """Ones in the place of an image; where its size is known, of a single one."""
    if is_static(x.shape[1:]) and not isinstance(x.dtype, int):
        return x.build.constant(np.ones((1, *x.shape[1:])), x.dtype)
    return full_like(x, 1.0)


def _positive_bias(affine: Affine, w: Value, b: Value | None) -> Value | None:
    """The positive part of the bias of a convolution and what is merged with it."""
    if b is not None:
        return folded(lambda b: anp.maximum(b * affine.scale + affine.shift, 0.0), b)
    if not np.any(affine.shift > 0):
        return None
    outputs = affine.output.shape[1]
    bias = np.broadcast_to(affine.shift, (int(outputs or 1),))
    return w.constant_like(np.maximum(bias, 0.0))


def _scaled_kernel(operator: str, w: Value, scale: Floats, group: int) -> Value:
    """The kernel (M, C / group, …) of Conv or (C, M / group, …) of ConvTranspose, times a factor of M."""
    if np.all(scale == 1):
        return w
    spatial = [1] * (w.ndim - 2)
    if operator == "Conv" or scale.size == 1:
        return folded(lambda w: w * scale.reshape(-1, 1, *spatial), w)
    inputs, outputs = (int(size or 0) for size in w.shape[:2])
    factor = np.repeat(scale.reshape(group, 1, outputs), inputs // group, axis=1)
    return folded(lambda w: w * factor.reshape(inputs, outputs, *spatial), w)


rules.vjp("Conv", convolution("Conv"))
rules.vjp("ConvTranspose", convolution("ConvTranspose"))


# Products


def product(vjp: Vjp, slot: int | None = None) -> Vjp:
    """The rule of one factor of a MatMul, Gemm or Einsum: by its share of y."""

    @with_parameter(vjp, "absorb")
    def product_vjp(
        r: Value, y: Value, *xs: Value, absorb: Absorb, **settings: Any
    ) -> Value | None:
        number = settings["slot"] if slot is None else slot
        r, xs = wide(r), tuple(x if x is None else wide(x) for x in xs)
        weights = [x for x in xs[:2] if x is not None and not is_image(x.tensor)]
        if number > 1 or len(xs) < 2 or not weights:
            return _share_of_factor(vjp, number, r, y, xs, settings)
        if is_before_layers(xs[number].tensor):
            ones = [full_like(x, 1.0) for x in xs[:2]]
            count = _product(y, *ones)
            return vjp(r / (count + EPSILON), y, *ones, *xs[2:], **settings)
        affine = affine_after(y)
        part = divide(r, wide(affine.output))
        scaled = part if np.all(affine.scale == 1) else part * affine.scale
        if np.any(affine.shift):
            absorb(part * affine.shift)
        absorb_summand(scaled, y, absorb)
        return xs[number] * vjp(scaled, y, *xs, **settings)

    return product_vjp


def absorb_summand(part: Value, y: Value, absorb: Absorb) -> None:
    """Absorb what the third operand of a Gemm adds, if it is a constant; `part` is r over y."""
    node = y.tensor.inputs[0]
    constants = [constant_values(x) for x in node.inputs[2:] if node.op == "Gemm"]
    if constants and constants[0] is not None:
        absorb(part * (constants[0] * node.attrs.get("beta", 1.0)))


def _product(y: Value, a: Value, b: Value) -> Value:
    """The product that writes y, of other factors."""
    node = y.tensor.inputs[0]
    if node.op == "Gemm":
        return write_gemm(a, b, **node.attrs)
    return y.build.op(node.op, a, b, **node.attrs)


def _share_of_factor(
    vjp: Vjp, slot: int, r: Value, y: Value, xs: tuple[Value, ...], settings: dict[str, Any]
) -> Value | None:
    """All of r to the factor that is no attention matrix, and equal parts to several."""
    factors = [
        x for x in xs[: len(xs) if y.tensor.inputs[0].op == "Einsum" else 2] if x is not None
    ]
    constant = constant_slot(y) if len(factors) == 2 else None
    if constant == slot:
        return None
    cotangent: Value = xs[slot] * vjp(divide(r, wide(y)), y, *xs, **settings)
    is_divided = constant is None and slot < len(factors)
    return cotangent * (1 / len(factors)) if is_divided and len(factors) > 1 else cotangent


for operator in ("MatMul", "Gemm"):
    functions = DEFAULT[operator].functions
    rules.vjp(operator, *(product(vjp, slot) for slot, vjp in enumerate(functions) if vjp))


def einsum_vjp(
    r: Value, y: Value, *xs: Value, equation: str, slot: int, absorb: Absorb
) -> Value | None:
    """The same for any equation."""
    (vjp,) = DEFAULT["Einsum"].functions
    assert vjp is not None  # noqa: S101
    return product(vjp)(r, y, *xs, equation=equation, slot=slot, absorb=absorb)


rules.variadic("Einsum", einsum_vjp)
