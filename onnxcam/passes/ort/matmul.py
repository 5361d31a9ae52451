"""ONNX Runtime's matrix products: with a transposition, a scale, an activation, or weights of few bits."""

from __future__ import annotations

from typing import Any

import numpy as np

from onnxcam.arrays import Array
from onnxcam.graph import anp
from onnxcam.graph.tracing import Value
from onnxcam.passes.ort.activation import activate
from onnxcam.passes.ort.registry import decomposes


def _transpose(x: Value, last_two: int, batch: int) -> Value:
    """`batch` moves the first axis after the other batch axes; `last_two` then swaps the last two."""
    order = list(range(x.ndim))
    if batch:
        order = [*order[1:-1], order[0], order[-1]]
    if last_two:
        order[-2:] = order[:-3:-1]
    return anp.transpose(x, order)


@decomposes("FusedMatMul", "TransposeMatMul")
def _fused_matmul(
    a: Value,
    b: Value,
    *,
    alpha: float = 1.0,
    transA: int = 0,  # noqa: N803  as the operator calls it
    transB: int = 0,  # noqa: N803
    transBatchA: int = 0,  # noqa: N803
    transBatchB: int = 0,  # noqa: N803
) -> Value:
    y = anp.matmul(_transpose(a, transA, transBatchA), _transpose(b, transB, transBatchB))
    return y if alpha == 1 else y * alpha


@decomposes("FusedMatMulActivation")
def _fused_matmul_activation(
    a: Value,
    b: Value,
    *,
    activation: str,
    activation_alpha: float | None = None,
    activation_beta: float | None = None,
    activation_gamma: float | None = None,
    activation_axis: int = -1,
    **attributes: Any,
) -> Value | None:
    y: Any = _fused_matmul(a, b, **attributes)
    if activation == "Softmax":
        return y.build.op("Softmax", y, axis=activation_axis)
    return activate(y, activation, _drop_none(activation_alpha, activation_beta, activation_gamma))


def _drop_none(*parameters: float | None) -> list[float]:
    return [number for number in parameters if number is not None]


@decomposes("FusedGemm")
def _fused_gemm(
    a: Value,
    b: Value,
    c: Value | None = None,
    *,
    activation: str = "",
    activation_alpha: float | None = None,
    activation_beta: float | None = None,
    activation_gamma: float | None = None,
    **attributes: Any,
) -> Value | None:
    operands = [a, b] if c is None else [a, b, c]
    y = a.build.op("Gemm", *operands, **attributes)
    return activate(y, activation, _drop_none(activation_alpha, activation_beta, activation_gamma))


@decomposes("MatMulNBits")
def _matmul_n_bits(
    a: Value,
    b: Value,
    scales: Value,
    zeros: Value | None = None,
    groups: Value | None = None,
    bias: Value | None = None,
    *,
    K: int,  # noqa: N803
    N: int,  # noqa: N803
    block_size: int,
    bits: int = 4,
    accuracy_level: int = 0,
    weight_prepacked: int = 0,
) -> Value | None:
    """Weights of 2, 4 or 8 bits, in blocks along K that have a scale each, written as floats."""
    del accuracy_level
    if groups is not None or weight_prepacked or b.constant is None or scales.constant is None:
        return None
    blocks = -(-K // block_size)
    integers = _unpack(b.constant.reshape(N, blocks, -1), bits)[..., :block_size]
    zero: Any = 2 ** (bits - 1)
    if zeros is not None:
        if zeros.constant is None:
            return None
        zero = _zero_points(zeros.constant, N, blocks, bits)
    block_scales = scales.constant.reshape(N, blocks, 1)
    weights = ((integers - zero) * block_scales).astype(block_scales.dtype).reshape(N, -1)[:, :K]
    y = anp.matmul(a, a.build.constant(weights.T))
    return y if bias is None else y + bias


def _unpack(packed: Array, bits: int) -> Array:
    """The numbers in every byte, the lowest bits first, one after another along the last axis."""
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    column: Any = packed[..., None]
    parts: Array = (column >> shifts) & (2**bits - 1)
    return parts.reshape(*packed.shape[:-1], -1).astype(np.float32)


def _zero_points(zeros: Array, rows: int, blocks: int, bits: int) -> Array:
    """One zero point per block: packed like the weights, or floats."""
    if zeros.dtype != np.uint8:
        return zeros.reshape(rows, blocks, 1)
    return _unpack(zeros.reshape(rows, -1), bits)[:, :blocks, None]
