"""ONNX Runtime's quantized operators, rewritten as those that `quantization/integer_ops` decomposes."""

from __future__ import annotations

from typing import Any

from onnx import TensorProto

from onnxcam.graph.tracing import Value
from onnxcam.passes.ort.conv import channels_last, channels_second
from onnxcam.passes.ort.registry import decomposes


@decomposes("QLinearConv")
def _qlinear_conv(x: Value, *operands: Value | None, **attributes: Any) -> Value:
    """The weights are (M, C, kH, kW) in both layouts of x."""
    if not attributes.pop("channels_last", 0):
        return x.build.op("QLinearConv", x, *operands, **attributes)
    return channels_last(x.build.op("QLinearConv", channels_second(x), *operands, **attributes))


@decomposes("MatMulIntegerToFloat")
def _matmul_integer_to_float(
    a: Value,
    b: Value,
    a_scale: Value,
    b_scale: Value,
    a_zero: Value | None = None,
    b_zero: Value | None = None,
    bias: Value | None = None,
) -> Value:
    zeros = [a_zero, b_zero] if b_zero is not None else [] if a_zero is None else [a_zero]
    sums = a.build.op("MatMulInteger", a, b, *zeros)
    y = a.build.op("Cast", sums, to=TensorProto.FLOAT) * (a_scale * b_scale)
    return y if bias is None else y + bias


@decomposes("DynamicQuantizeMatMul")
def _dynamic_quantize_matmul(
    a: Value,
    b: Value,
    b_scale: Value,
    b_zero: Value | None = None,
    bias: Value | None = None,
) -> Value:
    integers, scale, zero = a.build.ops("DynamicQuantizeLinear", a, outputs=3)
    return _matmul_integer_to_float(integers, b, scale, b_scale, zero, b_zero, bias)  # type: ignore[return-value]
