"""How a function of NumPy gets its row: what writes it, and its type for arrays and for Values.

A writer has the parameters of NumPy's function that can be written, by their names; any other argument is a
TypeError.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Concatenate, ParamSpec, Protocol, TypeAlias, TypeVar, cast, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

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
    def __call__(self, a: Value, axis: Axes | None = None, *, keepdims: bool = False) -> Value: ...
    @overload
    def __call__(
        self, a: NDArray[Any], axis: Axes | None = None, *, keepdims: bool = False
    ) -> NDArray[Any]: ...


class Joining(Protocol):
    """A function of a sequence, all Values or all arrays."""

    def __call__(self, arrays: Sequence[OneKind], axis: int = 0) -> OneKind:
        """The elements of all of them in one."""


def register(function: Callable[..., Any], write: Writer) -> None:
    """Make `write` what writes a function; errors about its arguments name the function."""
    write.__qualname__ = f"np.{function.__name__}"
    WRITERS[function] = write


def unary(function: np.ufunc, write: str | Writer) -> Function[[]]:
    """The row of a function of one operand; a text is the operator."""
    register(function, _operator(write) if isinstance(write, str) else write)
    return cast(Function[[]], function)


def binary(function: np.ufunc, write: str | Writer) -> Binary:
    """The row of a function of two operands, which are brought to one dtype."""
    write_operands = _operator(write) if isinstance(write, str) else write
    register(function, lambda a, b: write_operands(*promote(a, b)))
    return cast(Binary, function)


def logical(function: np.ufunc, operator: str) -> Binary:
    """The row of a function of the truth of two operands."""
    write = _operator(operator)
    register(function, lambda a, b: write(a.astype(np.bool_), b.astype(np.bool_)))
    return cast(Binary, function)


def _operator(operator: str) -> Writer:
    return lambda first, *operands: first.build.op(operator, first, *operands)


def promote(a: Value, b: Value) -> tuple[Value, Value]:
    """Both in the dtype that NumPy would compute with."""
    if a.dtype == b.dtype or isinstance(a.dtype, int) or isinstance(b.dtype, int):
        return a, b
    dtype = np.result_type(a.dtype, b.dtype)
    return a.astype(dtype), b.astype(dtype)


def writes(
    function: Callable[..., Any],
) -> Callable[[Callable[Concatenate[Value, P], Value]], Function[P]]:
    """Decorates what writes a function of NumPy; its signature is that for arrays too."""

    def decorate(write: Callable[Concatenate[Value, P], Value]) -> Function[P]:
        register(function, write)
        return cast(Function[P], function)

    return decorate


def normalize_axes(a: Value, axis: Axes | None) -> list[int]:
    """The axes of a reduction, in order; None: all. IndexError for an axis that the value does not have."""
    axes = range(a.ndim) if axis is None else np.atleast_1d(np.asarray(axis)).tolist()
    return sorted(normalize_axis(index, a.ndim) for index in axes)


def normalize_axis(axis: int, rank: int) -> int:
    """The axis counted from the first. IndexError if there is none."""
    if not -rank <= axis < rank:
        raise IndexError(f"axis {axis} of a tensor with {rank} axes")
    return axis % rank
