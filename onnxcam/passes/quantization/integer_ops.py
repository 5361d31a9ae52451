"""Operators that compute with quantized numbers, decomposed into operators on floats.

QLinearConv and its like are by definition DequantizeLinear -> the operator on floats -> QuantizeLinear. ONNX
Runtime computes them in integers or fixed point, so that single values may differ by one quantization step.
Sums of integers (ConvInteger, MatMulInteger) are exact.

Assumes a canonical graph: how the sums are written depends on what reads them. Operators whose weights have
scales or zero points that are computed at run time stay as they are, also those with the channels last of a
tensor of unknown rank.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_graphsurgeon as gs

from onnxcam.graph.operators import CONTRIB
from onnxcam.graph.reachability import producer
from onnxcam.graph.tracing import Value
from onnxcam.passes.canonicalize import canonicalize
from onnxcam.passes.decomposition import Formula, Stage, decomposed_operators, decomposes


def decompose_integer_ops(graph: gs.Graph) -> gs.Graph:
    """Replace the operators on quantized numbers, in place; returns the graph, canonical. NeedsOpsetError if
    scales per channel need a newer opset.
    """
    operators = decomposed_operators(Stage.QUANTIZED)
    if not any((node.domain or "", node.op) in operators for node in graph.nodes):
        return graph
    return canonicalize(graph, stages={Stage.LOADING, Stage.QUANTIZED})


def _is_constant(value: Value | None) -> bool:
    return value is None or isinstance(value.tensor, gs.Constant)


def _dequantize(values: Value, scale: Value, zero: Value | None, axis: int = 0) -> Value:
    """The floats that integers represent, by one scale or one per slice of `axis`. Constants stay integers:
    ONNX Runtime would quantize float weights between quantized tensors by itself, and less precisely.
    """
    per_slice = isinstance(scale.tensor, gs.Constant) and scale.tensor.values.size > 1
    zeros = [] if zero is None else [zero]
    slices = axis % values.ndim if per_slice else None
    return values.build.op("DequantizeLinear", values, scale, *zeros, axis=slices)


def _dequantize_operand(values: Value, scale: Value, zero: Value | None, axis: int = 0) -> Value:
    """`_dequantize` for operands that may be weights. ValueError for weights with computed scales."""
    if isinstance(values.tensor, gs.Constant) and not (_is_constant(scale) and _is_constant(zero)):
        raise ValueError("the scale or the zero point of weights is not constant")
    return _dequantize(values, scale, zero, axis)


def _dequantize_bias(
    bias: Value, x_scale: Value, w_scale: Value, factor: float = 1.0, axis: int = 0
) -> Value:
    """A bias of int32, whose scale is the product of two scales. ValueError if these are not constant."""
    first, second = x_scale.constant, w_scale.constant
    if first is None or second is None:
        raise ValueError("the scale of a bias is not constant")
    scales: list[Any] = [first.ravel(), second.ravel()]
    product = np.float32(factor) * scales[0] * scales[1]
    return _dequantize(bias, bias.build.constant(product, np.float32), None, axis)


def _quantize(floats: Value, scale: Value, zero: Value | None) -> Value:
    zeros = [] if zero is None else [zero]
    return floats.build.op("QuantizeLinear", floats, scale, *zeros)


@decomposes("QLinearConv", stage=Stage.QUANTIZED)
def _conv(
    x: Value,
    x_scale: Value,
    x_zero: Value | None,
    w: Value,
    w_scale: Value,
    w_zero: Value | None,
    y_scale: Value,
    y_zero: Value | None = None,
    bias: Value | None = None,
    **attributes: Any,
) -> Value:
    operands = [_dequantize(x, x_scale, x_zero), _dequantize_operand(w, w_scale, w_zero)]
    if bias is not None:
        operands.append(_dequantize_bias(bias, x_scale, w_scale))
    return _quantize(x.build.op("Conv", *operands, **attributes), y_scale, y_zero)


@decomposes("QGemm", stage=Stage.QUANTIZED, domain=CONTRIB)
def _gemm(
    a: Value,
    a_scale: Value,
    a_zero: Value | None,
    b: Value,
    b_scale: Value,
    b_zero: Value | None,
    bias: Value | None = None,
    y_scale: Value | None = None,
    y_zero: Value | None = None,
    **attributes: Any,
) -> Value:
    """Floats if there is no scale of the output."""
    columns = 0 if attributes.get("transB") else 1
    operands = [
        _dequantize_operand(a, a_scale, a_zero),
        _dequantize_operand(b, b_scale, b_zero, axis=columns),
    ]
    if bias is not None:
        alpha = float(attributes.get("alpha", 1.0))
        operands.append(_dequantize_bias(bias, a_scale, b_scale, alpha, axis=-1))
    y = a.build.op("Gemm", *operands, **attributes)
    return y if y_scale is None else _quantize(y, y_scale, y_zero)


def _binary_formula(operator: str, axis: int = 0) -> Formula:
    """`axis` is the one of b that has a scale per slice, if it has several scales."""

    def formula(
        a: Value,
        a_scale: Value,
        a_zero: Value | None,
        b: Value,
        b_scale: Value,
        b_zero: Value | None,
        y_scale: Value,
        y_zero: Value | None = None,
    ) -> Value:
        left = _dequantize_operand(a, a_scale, a_zero)
        right = _dequantize_operand(b, b_scale, b_zero, axis)
        return _quantize(a.build.op(operator, left, right), y_scale, y_zero)

    return formula


def _unary_formula(operator: str) -> Formula:
    def formula(
        x: Value,
        x_scale: Value,
        x_zero: Value | None,
        y_scale: Value,
        y_zero: Value | None = None,
        *,
        channels_last: int = 0,
        **attributes: Any,
    ) -> Value:
        floats = _dequantize(x, x_scale, x_zero)
        if not channels_last:
            return _quantize(x.build.op(operator, floats, **attributes), y_scale, y_zero)
        axes = range(x.ndim)
        floats = x.build.op("Transpose", floats, perm=[0, axes[-1], *axes[1:-1]])
        y = x.build.op(operator, floats, **attributes)
        return _quantize(x.build.op("Transpose", y, perm=[0, *axes[2:], 1]), y_scale, y_zero)

    return formula


for _domain in ("", CONTRIB):
    decomposes("QLinearMatMul", stage=Stage.QUANTIZED, domain=_domain)(
        _binary_formula("MatMul", axis=-1)
    )
for _operator in ("Add", "Mul"):
    decomposes(f"QLinear{_operator}", stage=Stage.QUANTIZED, domain=CONTRIB)(
        _binary_formula(_operator)
    )
for _operator in ("Sigmoid", "LeakyRelu", "AveragePool", "GlobalAveragePool"):
    decomposes(f"QLinear{_operator}", stage=Stage.QUANTIZED, domain=CONTRIB)(
        _unary_formula(_operator)
    )


@decomposes("QLinearWhere", stage=Stage.QUANTIZED, domain=CONTRIB)
def _where(
    condition: Value,
    x: Value,
    x_scale: Value,
    x_zero: Value | None,
    y: Value,
    y_scale: Value,
    y_zero: Value | None,
    z_scale: Value,
    z_zero: Value | None = None,
) -> Value:
    operands = _dequantize(x, x_scale, x_zero), _dequantize(y, y_scale, y_zero)
    return _quantize(x.build.op("Where", condition, *operands), z_scale, z_zero)


@decomposes("QLinearSoftmax", stage=Stage.QUANTIZED, domain=CONTRIB)
def _softmax(
    x: Value,
    x_scale: Value,
    x_zero: Value | None,
    y_scale: Value,
    y_zero: Value | None = None,
    *,
    axis: int = -1,
    opset: int = 13,
) -> Value:
    """`opset` < 13 means the Softmax that flattens the axes from `axis` on: the same if that is the last."""
    del opset
    floats = _dequantize(x, x_scale, x_zero)
    return _quantize(x.build.op("Softmax", floats, axis=axis), y_scale, y_zero)


@decomposes("QLinearConcat", stage=Stage.QUANTIZED, domain=CONTRIB)
def _concat(y_scale: Value, y_zero: Value | None, *operands: Any, axis: int) -> Value:
    """`operands`: the values, scale and zero point of one tensor after the other."""
    triples = zip(operands[::3], operands[1::3], operands[2::3], strict=True)
    floats = [_dequantize(*triple) for triple in triples]
    return _quantize(y_scale.build.op("Concat", *floats, axis=axis), y_scale, y_zero)


# Sums of integers, whose inputs have no scale


def _subtract_zero(values: Value, zero: Value | None, axis: int) -> Value:
    """values - zero as floats. Values that were quantized in the graph: (dequantized values) / scale, through
    which a gradient passes.
    """
    build = values.build
    quantizer = producer(values.tensor)
    if quantizer is not None and quantizer.op in ("DynamicQuantizeLinear", "QuantizeLinear"):
        is_dynamic = quantizer.op == "DynamicQuantizeLinear"
        scale = Value(build, quantizer.outputs[1] if is_dynamic else quantizer.inputs[1])
        zeros = [] if zero is None else [zero]
        return build.op("Div", build.op("DequantizeLinear", values, scale, *zeros), scale)
    return _dequantize_operand(values, build.constant(1.0, np.float32), zero, axis)


def _cast_sums(floats: Value, node: gs.Node) -> Value:
    """Sums as the int32 that a node writes, or as floats if that is what all its readers cast them to."""
    readers = node.outputs[0].outputs
    return (
        floats
        if all(reader.op == "Cast" for reader in readers)
        else floats.astype(np.dtype(np.int32))
    )


@decomposes("ConvInteger", stage=Stage.QUANTIZED)
def _conv_integer(
    x: Value,
    w: Value,
    x_zero: Value | None = None,
    w_zero: Value | None = None,
    *,
    node: gs.Node,
    **attributes: Any,
) -> Value:
    operands = _subtract_zero(x, x_zero, 1), _subtract_zero(w, w_zero, 0)
    return _cast_sums(x.build.op("Conv", *operands, **attributes), node)


@decomposes("MatMulInteger", stage=Stage.QUANTIZED)
def _matmul_integer(
    a: Value,
    b: Value,
    a_zero: Value | None = None,
    b_zero: Value | None = None,
    *,
    node: gs.Node,
) -> Value:
    operands = _subtract_zero(a, a_zero, -2), _subtract_zero(b, b_zero, -1)
    return _cast_sums(a.build.op("MatMul", *operands), node)
