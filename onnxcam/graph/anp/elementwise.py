"""Functions of NumPy that compute each element from those at its position, and products of matrices."""

from __future__ import annotations

import numpy as np

from onnxcam.arrays import is_integer
from onnxcam.graph.anp.rows import Writer, binary, logical, promote, unary, writes
from onnxcam.graph.tracing import Operand, Value


def _divide(a: Value, b: Value) -> Value:
    if is_integer(a.dtype):  # Div would round
        a, b = a.astype(np.float64), b.astype(np.float64)
    return a.build.op("Div", a, b)


def _of_masks(operator: str) -> Writer:
    def write(*masks: Value) -> Value:
        for mask in masks:
            if mask.dtype != np.bool_:
                raise TypeError(f"&, | and ~ are written for bool, and {mask!r} is not")
        return masks[0].build.op(operator, *masks)

    return write


def _negated_operator(a: Value, b: Value, operator: str) -> Value:
    return a.build.op("Not", a.build.op(operator, a, b))


def _is_finite(a: Value) -> Value:
    return less(abs(a), np.inf)  # IsInf is of opset 10


add = binary(np.add, "Add")
subtract = binary(np.subtract, "Sub")
multiply = binary(np.multiply, "Mul")
divide = binary(np.divide, _divide)
power = binary(np.power, "Pow")
maximum = binary(np.maximum, "Max")
minimum = binary(np.minimum, "Min")
matmul = binary(np.matmul, "MatMul")

negative = unary(np.negative, "Neg")
abs = unary(np.absolute, "Abs")  # noqa: A001  NumPy's names
sign = unary(np.sign, "Sign")
exp = unary(np.exp, "Exp")
log = unary(np.log, "Log")
log2 = unary(np.log2, lambda x: x.build.op("Log", x) * (1 / np.log(2.0)))
sqrt = unary(np.sqrt, "Sqrt")
square = unary(np.square, lambda x: x * x)
reciprocal = unary(np.reciprocal, "Reciprocal")
floor = unary(np.floor, "Floor")
rint = unary(np.rint, "Round")  # of opset 11
sin = unary(np.sin, "Sin")
cos = unary(np.cos, "Cos")
tanh = unary(np.tanh, "Tanh")
sinh = unary(np.sinh, "Sinh")
cosh = unary(np.cosh, "Cosh")

equal = binary(np.equal, "Equal")
not_equal = binary(np.not_equal, lambda a, b: _negated_operator(a, b, "Equal"))
greater = binary(np.greater, "Greater")
less = binary(np.less, "Less")
# GreaterOrEqual is of opset 12
greater_equal = binary(np.greater_equal, lambda a, b: _negated_operator(a, b, "Less"))
# so NaN >= x and NaN <= x are true
less_equal = binary(np.less_equal, lambda a, b: _negated_operator(a, b, "Greater"))
isnan = unary(np.isnan, "IsNaN")
isfinite = unary(np.isfinite, _is_finite)
logical_and = logical(np.logical_and, "And")
logical_or = logical(np.logical_or, "Or")
logical_not = unary(np.logical_not, lambda a: a.build.op("Not", a.astype(np.bool_)))
bitwise_and = binary(np.bitwise_and, _of_masks("And"))
bitwise_or = binary(np.bitwise_or, _of_masks("Or"))
invert = unary(np.invert, _of_masks("Not"))


@writes(np.clip)
def clip(a: Value, a_min: Operand | None, a_max: Operand | None) -> Value:
    """The elements, limited to a range; None is no limit."""
    limited = a if a_min is None else maximum(a, a_min)
    return limited if a_max is None else minimum(limited, a_max)


@writes(np.where)
def where(condition: Value, x: Operand, y: Operand) -> Value:
    """x where the condition holds, else y. A number takes the dtype of the other operand; two numbers are
    float64 or int64, as in NumPy, so that a float32 result needs a Value: `x.constant_like(1.0)`.
    """
    values = [operand for operand in (x, y, condition) if isinstance(operand, Value)]
    like = values[0]
    operands = promote(like.constant_like(x), like.constant_like(y))
    return like.build.op("Where", like.constant_like(condition).astype(np.bool_), *operands)
