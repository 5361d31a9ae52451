"""Products of matrices: MatMul and Gemm."""

from __future__ import annotations

from typing import Any

from onnxcam.autodiff.lowering.matmul import transpose_last_two
from onnxcam.autodiff.rule_table import Rules
from onnxcam.graph import anp
from onnxcam.graph.tracing import Value

rules = Rules()


def matmul_vjp_a(g: Value, y: Value, a: Value, b: Value) -> Value:
    """MatMul-13, y = a b: g b^T. Since opset 1; a vector is a matrix of one row or one column."""
    g, _, columns = _as_matrices(g, a, b)
    return _as_operand(g @ transpose_last_two(columns), a, axis=-2)


def matmul_vjp_b(g: Value, y: Value, a: Value, b: Value) -> Value:
    """a^T g."""
    g, rows, _ = _as_matrices(g, a, b)
    return _as_operand(transpose_last_two(rows) @ g, b, axis=-1)


def _as_matrices(g: Value, a: Value, b: Value) -> tuple[Value, Value, Value]:
    """g, a and b with an axis of size 1 where a vector has none."""
    if a.ndim == 1:
        a, g = anp.expand_dims(a, 0), anp.expand_dims(g, g.ndim if b.ndim == 1 else g.ndim - 1)
    if b.ndim == 1:
        b, g = anp.expand_dims(b, 1), anp.expand_dims(g, g.ndim)
    return g, a, b


def _as_operand(cotangent: Value, operand: Value, axis: int) -> Value:
    """The value without the axis that made a vector a matrix."""
    return anp.squeeze(cotangent, axis=axis) if operand.ndim == 1 else cotangent


rules.vjp("MatMul", matmul_vjp_a, matmul_vjp_b)


def write_gemm(a: Value, b: Value, **attributes: Any) -> Value:
    """alpha A' B'. Gemm needs a third operand before opset 11."""
    zero = a.build.constant(0, a.dtype) if a.build.opset < 11 else None
    return a.build.op("Gemm", *((a, b) if zero is None else (a, b, zero)), **attributes)


def gemm_vjp_a(
    g: Value, y: Value, a: Value, b: Value, *, alpha: float, transA: int, transB: int
) -> Value:
    """Gemm-13, y = alpha A' B' + beta c, where A' is a or a^T, and B' likewise: alpha g B'^T. Since opset 7.

    Transposed if A' is: one Gemm, by its flags.
    """
    if transA:
        return write_gemm(b, g, alpha=alpha, transA=transB, transB=1)
    return write_gemm(g, b, alpha=alpha, transB=int(not transB))


def gemm_vjp_b(
    g: Value, y: Value, a: Value, b: Value, *, alpha: float, transA: int, transB: int
) -> Value:
    """alpha A'^T g, transposed if B' is."""
    if transB:
        return write_gemm(g, a, alpha=alpha, transA=1, transB=transA)
    return write_gemm(a, g, alpha=alpha, transA=int(not transA))


def gemm_vjp_c(g: Value, y: Value, a: Value, b: Value, c: Value, *, beta: float) -> Value:
    """beta g."""
    return g * beta if beta != 1 else g


rules.vjp("Gemm", gemm_vjp_a, gemm_vjp_b, gemm_vjp_c)
