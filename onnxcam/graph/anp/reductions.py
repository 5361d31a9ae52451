"""Functions of NumPy that reduce axes, sort along one, or find the place of the largest element."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np

from onnxcam.arrays import is_integer
from onnxcam.graph.anp.elementwise import abs as absolute
from onnxcam.graph.anp.elementwise import sqrt, square
from onnxcam.graph.anp.rows import (
    Axes,
    Function,
    Reduction,
    normalize_axes,
    normalize_axis,
    register,
    writes,
)
from onnxcam.graph.anp.shapes import expand_dims, reshape, transpose
from onnxcam.graph.einsum import Equation
from onnxcam.graph.slicing import dim_size, with_axes
from onnxcam.graph.tracing import Operand, Value


def _reduction(
    function: Callable[..., Any], operator: str, number: Callable[[Value], Value] = lambda a: a
) -> Reduction:
    """The row of a reduction; `number` prepares elements that are bool or integers."""

    def reduce(a: Value, axis: Axes | None = None, *, keepdims: bool = False) -> Value:
        axes = normalize_axes(a, axis)
        return with_axes(operator, number(a), axes, keepdims=int(keepdims)) if axes else number(a)

    register(function, reduce)
    return cast(Reduction, function)


def _counted(a: Value) -> Value:
    """Bool and small integers as int64, in which NumPy adds and multiplies them."""
    return a.astype(np.int64) if a.dtype == np.bool_ or is_integer(a.dtype) else a


def _measured(a: Value) -> Value:
    """Bool and integers as float64, in which NumPy averages them."""
    return a.astype(np.float64) if a.dtype == np.bool_ or is_integer(a.dtype) else a


sum = _reduction(np.sum, "ReduceSum", _counted)  # noqa: A001
mean = _reduction(np.mean, "ReduceMean", _measured)
max = _reduction(np.max, "ReduceMax")  # noqa: A001
min = _reduction(np.min, "ReduceMin")  # noqa: A001
prod = _reduction(np.prod, "ReduceProd", _counted)


def _truth(function: Callable[..., Any], operator: str) -> Reduction:
    """The row of a reduction of bool, as the largest or the smallest of 0 and 1."""

    def reduce(a: Value, axis: Axes | None = None, *, keepdims: bool = False) -> Value:
        numbers = a.astype(np.bool_).astype(np.int32)
        axes = normalize_axes(a, axis)
        return with_axes(operator, numbers, axes, keepdims=int(keepdims)).astype(np.bool_)

    register(function, reduce)
    return cast(Reduction, function)


any = _truth(np.any, "ReduceMax")  # noqa: A001
all = _truth(np.all, "ReduceMin")  # noqa: A001


def _var(a: Value, axis: Axes | None = None, *, keepdims: bool = False) -> Value:
    return mean(square(a - mean(a, axis, keepdims=True)), axis, keepdims=keepdims)


def _std(a: Value, axis: Axes | None = None, *, keepdims: bool = False) -> Value:
    return sqrt(_var(a, axis, keepdims=keepdims))


def _norm(
    x: Value,
    ord: int | None = None,  # noqa: A002
    axis: int | None = None,
    *,
    keepdims: bool = False,
) -> Value:
    if ord not in (None, 1, 2) or (ord is not None and axis is None) or isinstance(axis, tuple):
        raise TypeError(
            f"np.linalg.norm with ord={ord}, axis={axis} cannot be written into a graph; what can is the "
            "norm of all elements, or ord 1 or 2 along one axis"
        )
    if ord == 1:
        return sum(absolute(x), axis, keepdims=keepdims)
    return sqrt(sum(square(x), axis, keepdims=keepdims))


register(np.var, _var)
register(np.std, _std)
register(np.linalg.norm, _norm)
var, std = cast(Reduction, np.var), cast(Reduction, np.std)
norm = cast(Reduction, np.linalg.norm)


def _arg_reduction(function: Callable[..., Any], operator: str) -> Function[...]:
    def write(a: Value, axis: int | None = None, *, keepdims: bool = False) -> Value:
        if axis is None and keepdims:
            raise TypeError(f"np.{function.__name__} over all axes cannot keep them")
        flat, axis = (reshape(a, [-1]), 0) if axis is None else (a, axis)
        axis = normalize_axis(axis, flat.ndim)
        return flat.build.op(operator, flat, axis=axis, keepdims=int(keepdims))

    register(function, write)
    return cast(Function[...], function)


argmax = _arg_reduction(np.argmax, "ArgMax")
argmin = _arg_reduction(np.argmin, "ArgMin")


@writes(np.cumsum)
def cumsum(a: Value, axis: int) -> Value:
    """The sum of the elements up to each, along an axis. Since opset 11."""
    axis = normalize_axis(axis, a.ndim)
    return a.build.op("CumSum", _counted(a), a.build.constant(np.int64(axis)))


@writes(np.sort)
def sort(a: Value, axis: int = -1) -> Value:
    """The elements in ascending order along an axis."""
    return _ascending(a, axis)[0]


@writes(np.argsort)
def argsort(
    a: Value, axis: int = -1, kind: str | None = None, *, stable: bool | None = None
) -> Value:
    """The indices that sort an axis in ascending order, always stable; of -a, in descending order."""
    del kind, stable
    return _ascending(a, axis)[1]


def _ascending(a: Value, axis: int) -> tuple[Value, ...]:
    """The sorted elements and their indices. Of equal elements TopK has the first first."""
    axis, build = normalize_axis(axis, a.ndim), a.build
    if build.opset >= 11:
        size = dim_size(a, axis)
        return build.ops("TopK", a, size, outputs=2, axis=axis, largest=0, shape=a.shape)
    if build.opset == 10:
        negated = build.ops("TopK", -a, dim_size(a, axis), outputs=2, axis=axis, shape=a.shape)
    elif isinstance(size_ := a.shape[axis], int):
        negated = build.ops("TopK", -a, outputs=2, axis=axis, k=size_, shape=a.shape)
    else:
        return build.ops("TopK", a, dim_size(a, axis), outputs=2, axis=axis)  # needs opset 10
    return -negated[0], negated[1]


def _einsum(equation: str, *operands: Operand, optimize: Any = False) -> Value:
    """The product of all operands, its axes in the order of the result and then those that are summed. Not
    Einsum, which is of opset 12.
    """
    del optimize  # the order of the products
    if not isinstance(equation, str):
        raise TypeError("np.einsum of Values takes an equation, as in 'nk,nkhw->nhw'")
    like = next(operand for operand in operands if isinstance(operand, Value))
    values = [like.constant_like(operand) for operand in operands]
    parsed = Equation.parse(equation, [value.ndim for value in values])
    summed = sorted(set("".join(parsed.operands)) - set(parsed.result))
    letters = parsed.result + "".join(summed)
    factors = [_along(*pair, letters) for pair in zip(values, parsed.operands, strict=True)]
    product = factors[0]
    for factor in factors[1:]:
        product = product * factor
    return sum(product, tuple(range(len(parsed.result), len(letters)))) if summed else product


def _along(value: Value, term: str, letters: str) -> Value:
    """An operand of an equation with one axis for each of the letters, in their order."""
    if len(set(term)) < len(term):
        raise TypeError(f"np.einsum of Values takes no letter twice in one operand, as in {term!r}")
    order = [term.index(letter) for letter in letters if letter in term]
    missing = [axis for axis, letter in enumerate(letters) if letter not in term]
    arranged = transpose(value, order)
    return expand_dims(arranged, missing) if missing else arranged


register(np.einsum, _einsum)
einsum = cast(Callable[..., Any], np.einsum)
