"""Products of matrices."""

from __future__ import annotations

from typing import Any

from onnxcam.autodiff.lowering.matmul import transpose_last_two
from onnxcam.autodiff.rule_table import Rules
from onnxcam.graph.value import Value, np

rules = Rules()


def matmul_left(g: Value, y: Value, a: Value, b: Value) -> Value:
    """g b^T; vectors are matrices of one row or column."""
    rows, columns = _as_matrices(g, a, b)
    return _as_operand(np.matmul(rows, transpose_last_two(columns[1])), a, axis=-2)


def matmul_right(g: Value, y: Value, a: Value, b: Value) -> Value:
    """a^T g."""
    rows, columns = _as_matrices(g, a, b)
    return _as_operand(np.matmul(transpose_last_two(columns[0]), rows), b, axis=-1)


def _as_matrices(g: Value, a: Value, b: Value) -> tuple[Value, tuple[Value, Value]]:
    if a.ndim == 1:
        a, g = np.expand_dims(a, 0), np.expand_dims(g, g.ndim if b.ndim == 1 else g.ndim - 1)
    if b.ndim == 1:
        b, g = np.expand_dims(b, 1), np.expand_dims(g, g.ndim)
    return g, (a, b)


def _as_operand(found: Value, operand: Value, axis: int) -> Value:
    """Without the axis that a vector was given to be a matrix."""
    return np.squeeze(found, axis=axis) if operand.ndim == 1 else found


rules.vjp("MatMul", matmul_left, matmul_right)


def gemm(a: Value, b: Value, **attributes: Any) -> Value:
    """alpha A' B'; before opset 11 something had to be added."""
    none = a.build.constant(0, a.dtype) if a.build.opset < 11 else None
    return a.build.op("Gemm", *((a, b) if none is None else (a, b, none)), **attributes)


def gemm_left(
    g: Value, y: Value, a: Value, b: Value, *, alpha: float, transA: int, transB: int
) -> Value:
    """alpha g B'^T, turned if A was: one Gemm, whose flags do the turning."""
    if transA:
        return gemm(b, g, alpha=alpha, transA=transB, transB=1)
    return gemm(g, b, alpha=alpha, transB=int(not transB))


def gemm_right(
    g: Value, y: Value, a: Value, b: Value, *, alpha: float, transA: int, transB: int
) -> Value:
    """alpha A'^T g, turned if B was."""
    if transB:
        return gemm(g, a, alpha=alpha, transA=1, transB=transA)
    return gemm(a, g, alpha=alpha, transA=int(not transA))


def gemm_bias(g: Value, y: Value, a: Value, b: Value, c: Value, *, beta: float) -> Value:
    """beta g."""
    return g * beta if beta != 1 else g


rules.vjp("Gemm", gemm_left, gemm_right, gemm_bias)
