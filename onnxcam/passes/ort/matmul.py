"""Products of matrices with what was fused to them."""

from __future__ import annotations

from typing import Any

import numpy as np

from onnxcam.arrays import Array
from onnxcam.graph import anp
from onnxcam.graph.tracing import Value
from onnxcam.passes.ort.activation import activated
from onnxcam.passes.ort.registry import decomposes


def _turned(x: Value, matrix: int, batch: int) -> Value:
    """`batch` moves the first axis behind the batch axes, `matrix` then exchanges the last two."""
    order = list(range(x.ndim))
    if batch:
        order = [*order[1:-1], order[0], order[-1]]
    if matrix:
        order[-2:] = order[:-3:-1]
    return anp.transpose(x, order)


@decomposes("FusedMatMul", "TransposeMatMul")
def _product(
    a: Value,
    b: Value,
    *,
    alpha: float = 1.0,
    transA: int = 0,  # noqa: N803  as the operator calls it
    transB: int = 0,  # noqa: N803
    transBatchA: int = 0,  # noqa: N803
    transBatchB: int = 0,  # noqa: N803
) -> Value:
    y = anp.matmul(_turned(a, transA, transBatchA), _turned(b, transB, transBatchB))
    return y if alpha == 1 else y * alpha


@decomposes("FusedMatMulActivation")
def _product_activated(
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
    y: Any = _product(a, b, **attributes)
    if activation == "Softmax":
        return y.build.op("Softmax", y, axis=activation_axis)
    return activated(y, activation, _numbers(activation_alpha, activation_beta, activation_gamma))


def _numbers(*given: float | None) -> list[float]:
    return [each for each in given if each is not None]


@decomposes("FusedGemm")
def _gemm(
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
    return activated(y, activation, _numbers(activation_alpha, activation_beta, activation_gamma))


@decomposes("MatMulNBits")
def _product_of_few_bits(
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
    """Weights of 2, 4 or 8 bits in blocks along K, each with its scale, written out as floats."""
    del accuracy_level
    if groups is not None or weight_prepacked or b.constant is None or scales.constant is None:
        return None
    blocks = -(-K // block_size)
    whole = _unpacked(b.constant.reshape(N, blocks, -1), bits)[..., :block_size]
    zero: Any = 2 ** (bits - 1)
    if zeros is not None:
        if zeros.constant is None:
            return None
        zero = _zero_points(zeros.constant, N, blocks, bits)
    steps = scales.constant.reshape(N, blocks, 1)
    weight = ((whole - zero) * steps).astype(steps.dtype).reshape(N, -1)[:, :K]
    y = anp.matmul(a, a.build.constant(weight.T))
    return y if bias is None else y + bias


def _unpacked(packed: Array, bits: int) -> Array:
    """The numbers in each byte, the lowest bits first, one behind the other along the last axis."""
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    column: Any = packed[..., None]
    parts: Array = (column >> shifts) & (2**bits - 1)
    return parts.reshape(*packed.shape[:-1], -1).astype(np.float32)


def _zero_points(given: Array, rows: int, blocks: int, bits: int) -> Array:
    """One for each block, packed like the weights, or floats as they are."""
    if given.dtype != np.uint8:
        return given.reshape(rows, blocks, 1)
    return _unpacked(given.reshape(rows, -1), bits)[:, :blocks, None]
