"""ONNX Runtime's quantized operators, rewritten as those that `quantization/integer_ops` decomposes."""

from __future__ import annotations

from typing import Any

import numpy as np
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


@decomposes("DynamicQuantizeLSTM")
def _dynamic_quantize_lstm(
    x: Value,
    w: Value,
    r: Value,
    b: Value | None = None,
    lengths: Value | None = None,
    initial_h: Value | None = None,
    initial_c: Value | None = None,
    peepholes: Value | None = None,
    w_scale: Value | None = None,
    w_zero: Value | None = None,
    r_scale: Value | None = None,
    r_zero: Value | None = None,
    **attributes: Any,
) -> tuple[Value, ...]:
    """An LSTM with these weights, of the rounded inputs. ONNX Runtime also rounds the state h to 8 bits before
    every step; that is left out, and values differ by about one quantization step.
    """
    weights = [_lstm_weights(w, w_scale, w_zero), _lstm_weights(r, r_scale, r_zero)]
    rounded = x.build.op("DequantizeLinear", *x.build.ops("DynamicQuantizeLinear", x, outputs=3))
    others = (b, lengths, initial_h, initial_c, peepholes)
    return x.build.ops("LSTM", rounded, *weights, *others, outputs=3, **attributes)


def _lstm_weights(values: Value, scale: Value | None, zero: Value | None) -> Value:
    """Weights (directions, rows, gates), with one scale per direction or per gate number, as the floats
    (directions, gates, rows) that an LSTM takes. ValueError if they are not constant.
    """
    arrays = [None if value is None else value.constant for value in (values, scale, zero)]
    integers, scales, zeros = arrays
    if integers is None or scales is None or (zero is not None and zeros is None):
        raise ValueError("the weights of a quantized LSTM are not constant")
    directions = len(integers)
    shifts = np.zeros(directions) if zeros is None else zeros.astype(np.float64)
    steps = scales.astype(np.float64)
    centered = integers.astype(np.float64) - shifts.reshape(directions, 1, -1)
    floats = centered * steps.reshape(directions, 1, -1)
    return values.build.constant(floats.swapaxes(1, 2), np.float32)
