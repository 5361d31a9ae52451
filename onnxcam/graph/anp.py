"""NumPy for arrays and Values: the functions that can be written into a graph, one row per function.

`anp.exp` is `np.exp` itself, with a type that also accepts Values: for arrays it computes the result, for
Values it writes operators. A rule writes any other operator with `g.build.op`; for arrays alone, use `np`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Concatenate, ParamSpec, Protocol, TypeAlias, TypeVar, cast, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from onnxcam.graph.slicing import with_axes
from onnxcam.graph.tracing import WRITERS, Operand, Value

P = ParamSpec("P")
Axes: TypeAlias = int | Sequence[int]
Writer: TypeAlias = Callable[..., Value]
OneKind = TypeVar("OneKind", Value, NDArray[Any])


class Function(Protocol[P]):
    """A function that computes if its first argument is an array, and writes if it is a Value."""

    @overload
    def __call__(self, a: Value, /, *args: P.args, **kwargs: P.kwargs) -> Value: ...
    @overload
    def __call__(self, a: NDArray[Any], /, *args: P.args, **kwargs: P.kwargs) -> NDArray[Any]: ...


class Binary(Protocol):
    """A function of two operands that writes if one of them is a Value."""

    @overload
    def __call__(self, a: Value, b: Operand, /) -> Value: ...
    @overload
    def __call__(self, a: ArrayLike, b: Value, /) -> Value: ...
    @overload
    def __call__(self, a: ArrayLike, b: ArrayLike, /) -> NDArray[Any]: ...


class Reduction(Protocol):
    """A function that reduces axes, by default all."""

    @overload
    def __call__(self, a: Value, axis: Axes | None = None, keepdims: bool = False) -> Value: ...
    @overload
    def __call__(
        self, a: NDArray[Any], axis: Axes | None = None, keepdims: bool = False
    ) -> NDArray[Any]: ...


class Concatenation(Protocol):
    """A function of a sequence, all Values or all arrays."""

    def __call__(self, arrays: Sequence[OneKind], axis: int = 0) -> OneKind:
        """One after the other along an axis."""


def _unary(function: np.ufunc, write: str | Writer) -> Function[[]]:
    WRITERS[function] = _operator(write) if isinstance(write, str) else write
    return cast(Function[[]], function)


def _binary(function: np.ufunc, write: str | Writer) -> Binary:
    WRITERS[function] = _operator(write) if isinstance(write, str) else write
    return cast(Binary, function)


def _operator(operator: str) -> Writer:
    return lambda first, *operands: first.build.op(operator, first, *operands)


def _negated_operator(operator: str) -> Writer:
    return lambda a, b: a.build.op("Not", a.build.op(operator, a, b))


add = _binary(np.add, "Add")
subtract = _binary(np.subtract, "Sub")
multiply = _binary(np.multiply, "Mul")
divide = _binary(np.divide, "Div")
power = _binary(np.power, "Pow")
maximum = _binary(np.maximum, "Max")
minimum = _binary(np.minimum, "Min")
matmul = _binary(np.matmul, "MatMul")

negative = _unary(np.negative, "Neg")
abs = _unary(np.absolute, "Abs")  # noqa: A001  NumPy's names
sign = _unary(np.sign, "Sign")
exp = _unary(np.exp, "Exp")
log = _unary(np.log, "Log")
sqrt = _unary(np.sqrt, "Sqrt")
square = _unary(np.square, lambda x: x * x)
reciprocal = _unary(np.reciprocal, "Reciprocal")
floor = _unary(np.floor, "Floor")
rint = _unary(np.rint, "Round")  # of opset 11
sin = _unary(np.sin, "Sin")
cos = _unary(np.cos, "Cos")
tanh = _unary(np.tanh, "Tanh")
sinh = _unary(np.sinh, "Sinh")
cosh = _unary(np.cosh, "Cosh")

equal = _binary(np.equal, "Equal")
not_equal = _binary(np.not_equal, _negated_operator("Equal"))
greater = _binary(np.greater, "Greater")
less = _binary(np.less, "Less")
# GreaterOrEqual is of opset 12
greater_equal = _binary(np.greater_equal, _negated_operator("Less"))
# so NaN >= x and NaN <= x are true
less_equal = _binary(np.less_equal, _negated_operator("Greater"))
logical_and = _binary(np.logical_and, "And")
logical_or = _binary(np.logical_or, "Or")
logical_not = _unary(np.logical_not, "Not")


def _register_writer(
    function: Callable[..., Any],
) -> Callable[[Callable[Concatenate[Value, P], Value]], Function[P]]:
    """Decorates what writes a function of NumPy; its signature is that for arrays too."""

    def register(write: Callable[Concatenate[Value, P], Value]) -> Function[P]:
        WRITERS[function] = write
        return cast(Function[P], function)

    return register


def _normalize_axes(a: Value, axis: Axes | None) -> list[int]:
    axes = range(a.ndim) if axis is None else np.atleast_1d(np.asarray(axis)).tolist()
    return sorted(index % a.ndim for index in axes)


def _reduction(function: Callable[..., Any], operator: str) -> Reduction:
    def reduce(a: Value, axis: Axes | None = None, keepdims: bool = False) -> Value:
        axes = _normalize_axes(a, axis)
        return with_axes(operator, a, axes, keepdims=int(keepdims)) if axes else a

    WRITERS[function] = reduce
    return cast(Reduction, function)


sum = _reduction(np.sum, "ReduceSum")  # noqa: A001
mean = _reduction(np.mean, "ReduceMean")
max = _reduction(np.max, "ReduceMax")  # noqa: A001
min = _reduction(np.min, "ReduceMin")  # noqa: A001
prod = _reduction(np.prod, "ReduceProd")


@_register_writer(np.clip)
def clip(a: Value, a_min: Operand, a_max: Operand) -> Value:
    """The elements, limited to a range."""
    return minimum(maximum(a, a_min), a_max)


@_register_writer(np.where)
def where(condition: Value, x: Operand, y: Operand) -> Value:
    """x where the condition holds, else y. A number takes the dtype of the other operand; two numbers are
    float64 or int64, as in NumPy, so that a float32 result needs a Value: `x.constant_like(1.0)`.
    """
    like = x if isinstance(x, Value) else y if isinstance(y, Value) else condition
    operands = like.constant_like(x), like.constant_like(y)
    return condition.build.op("Where", condition, *operands)


@_register_writer(np.reshape)
def reshape(a: Value, shape: Sequence[int]) -> Value:
    """The same elements in another shape."""
    return a.build.op("Reshape", a, a.build.constant(np.array(shape, np.int64)))


@_register_writer(np.transpose)
def transpose(a: Value, axes: Sequence[int] | None = None) -> Value:
    """The same elements with the axes in another order; without an order, reversed."""
    order = list(range(a.ndim))[::-1] if axes is None else [int(axis) for axis in axes]
    return a if order == list(range(a.ndim)) else a.build.op("Transpose", a, perm=order)


@_register_writer(np.swapaxes)
def swapaxes(a: Value, axis1: int, axis2: int) -> Value:
    """The same elements with two axes exchanged."""
    order = list(range(a.ndim))
    order[axis1], order[axis2] = order[axis2], order[axis1]
    return transpose(a, order)


@_register_writer(np.broadcast_to)
def broadcast_to(a: Value, shape: Sequence[int]) -> Value:
    """The elements repeated along axes of size 1, and along new first axes."""
    return a.build.op("Expand", a, a.build.constant(np.array(shape, np.int64)))


@_register_writer(np.expand_dims)
def expand_dims(a: Value, axis: Axes) -> Value:
    """The same elements with new axes of size 1 at these positions of the result."""
    axes = np.atleast_1d(np.asarray(axis))
    rank = a.ndim + len(axes)
    return with_axes("Unsqueeze", a, sorted(int(index) % rank for index in axes))


@_register_writer(np.squeeze)
def squeeze(a: Value, axis: Axes | None = None) -> Value:
    """The same elements without these axes of size 1."""
    return with_axes("Squeeze", a, _normalize_axes(a, axis))


def _concatenate(arrays: Sequence[Operand], axis: int = 0) -> Value:
    like = next(operand for operand in arrays if isinstance(operand, Value))
    return like.build.op("Concat", *(like.constant_like(operand) for operand in arrays), axis=axis)


WRITERS[np.concatenate] = _concatenate
concatenate = cast(Concatenation, np.concatenate)
