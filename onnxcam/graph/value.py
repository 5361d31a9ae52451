"""A tensor of a graph that answers to NumPy.

`np.where(y > 0, g, 0.0)` on Values writes Greater and Where into the graph. It is NumPy's own
dispatch (NEP 13 and NEP 18): a formula written once runs on arrays and writes itself into graphs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy  # noqa: ICN001  np is what formulas call it, below
import onnx_graphsurgeon as gs
from numpy.lib.mixins import NDArrayOperatorsMixin

from onnxcam.arrays import Array
from onnxcam.errors import ModelError
from onnxcam.graph.constants import constant_values
from onnxcam.graph.shape_inference import Dtype, Shape

if TYPE_CHECKING:
    from onnxcam.graph.builder import Builder

Operand = Any  # a Value, an array or a number

np: Any = numpy
"""NumPy as formulas see it whose operands may be Values: its own annotations know arrays only."""


class Value(NDArrayOperatorsMixin):
    """A tensor and the builder that writes what is computed from it."""

    def __init__(self, build: Builder, tensor: gs.Tensor) -> None:
        self.build, self.tensor = build, tensor

    def __repr__(self) -> str:
        return f"Value({self.name}: {self.tensor.dtype} {self.tensor.shape})"

    @property
    def name(self) -> str:
        """The tensor's name."""
        return str(self.tensor.name)

    @property
    def shape(self) -> Shape:
        """Numbers, and names for what is not known. ModelError where not even the rank is known."""
        if self.tensor.shape is None:
            raise ModelError(
                f"the shape of tensor {self.name!r} cannot be worked out; "
                "export the model with shapes (or run its own shape inference) first"
            )
        return tuple(self.tensor.shape)

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    @property
    def dtype(self) -> Dtype:
        """NumPy's dtype, or the number of the ONNX type where NumPy has none."""
        if self.tensor.dtype is None:
            raise ModelError(f"the type of tensor {self.name!r} cannot be worked out")
        found = self.tensor.dtype
        return found if isinstance(found, int) else np.dtype(found)

    @property
    def constant(self) -> Array | None:
        """The values, where they are known now: of a dequantised weight, too."""
        return constant_values(self.tensor)

    def __array_ufunc__(
        self, ufunc: numpy.ufunc, method: str, *operands: Operand, **more: Any
    ) -> Any:
        if method != "__call__" or more or ufunc not in UFUNCS:
            return NotImplemented
        return UFUNCS[ufunc](self, *self._values(operands))

    def __array_function__(
        self, function: Any, types: Any, operands: Sequence[Any], more: dict[str, Any]
    ) -> Any:
        del types
        if function not in FUNCTIONS:
            return NotImplemented
        return FUNCTIONS[function](self, *operands, **more)

    def _values(self, operands: Sequence[Operand]) -> list[Value]:
        return [self.constant_like(each) for each in operands]

    def constant_like(self, operand: Operand) -> Value:
        """A number or array as a constant of this value's dtype (bool and index arrays keep theirs)."""
        if isinstance(operand, Value):
            return operand
        array = np.asarray(operand)
        kind = np.result_type(array.dtype, np.float32)
        floats = array.dtype != np.bool_ and np.issubdtype(kind, np.floating)
        dtype = _peer(self, operand) if floats else array.dtype
        return self.build.constant(array, dtype)

    def astype(self, dtype: Dtype) -> Value:
        """Cast, where it is not of that dtype already."""
        if self.dtype == dtype:
            return self
        code = dtype if isinstance(dtype, int) else gs_code(dtype)
        return self.build.op("Cast", self, to=code)


def gs_code(dtype: numpy.dtype[Any]) -> int:
    """The number of an ONNX type."""
    from onnx import helper

    return int(helper.np_dtype_to_tensor_dtype(dtype))


def _peer(value: Value, operand: Operand) -> Any:
    """The dtype that an operand without one takes beside `value`: its own where that is of a kind."""
    own = value.dtype
    if isinstance(own, int) or own == np.bool_:
        return np.asarray(operand).dtype
    return own


def op(operator: str) -> Callable[..., Value]:
    """The operator on its operands in order."""
    return lambda first, *operands: first.build.op(operator, *operands)


def _not(operator: str) -> Callable[..., Value]:
    return lambda first, *operands: first.build.op("Not", first.build.op(operator, *operands))


UFUNCS: dict[numpy.ufunc, Callable[..., Value]] = {
    np.add: op("Add"),
    np.subtract: op("Sub"),
    np.multiply: op("Mul"),
    np.true_divide: op("Div"),
    np.power: op("Pow"),
    np.maximum: op("Max"),
    np.minimum: op("Min"),
    np.matmul: op("MatMul"),
    np.negative: op("Neg"),
    np.absolute: op("Abs"),
    np.sign: op("Sign"),
    np.exp: op("Exp"),
    np.log: op("Log"),
    np.sqrt: op("Sqrt"),
    np.square: lambda first, x: x * x,
    np.reciprocal: op("Reciprocal"),
    np.floor: op("Floor"),
    np.sin: op("Sin"),
    np.cos: op("Cos"),
    np.tanh: op("Tanh"),
    np.sinh: op("Sinh"),
    np.cosh: op("Cosh"),
    np.equal: op("Equal"),
    np.not_equal: _not("Equal"),
    np.greater: op("Greater"),
    np.less: op("Less"),
    np.greater_equal: _not("Less"),  # GreaterOrEqual is of opset 12; a NaN is nobody's maximum
    np.less_equal: _not("Greater"),
    np.logical_and: op("And"),
    np.logical_or: op("Or"),
    np.logical_not: op("Not"),
}


def _axes(value: Value, axis: int | Sequence[int] | None) -> list[int]:
    given = range(value.ndim) if axis is None else np.atleast_1d(np.asarray(axis)).tolist()
    return sorted(each % value.ndim for each in given)


AXES_ARE_AN_INPUT_FROM = {"ReduceSum": 13, "Squeeze": 13, "Unsqueeze": 13}  # the others: 18


def with_axes(operator: str, value: Value, axes: Sequence[int], **attributes: Any) -> Value:
    """An operator whose axes are an attribute or an input, as the opset has it."""
    build = value.build
    if build.opset < AXES_ARE_AN_INPUT_FROM.get(operator, 18):
        return build.op(operator, value, axes=list(axes), **attributes)
    return build.op(operator, value, build.constant(np.array(axes, np.int64)), **attributes)


def _reduce(operator: str) -> Callable[..., Value]:
    def reduce(
        self: Value, a: Value, axis: int | Sequence[int] | None = None, keepdims: bool = False
    ) -> Value:
        axes = _axes(a, axis)
        return with_axes(operator, a, axes, keepdims=int(keepdims)) if axes else a

    return reduce


def _where(self: Value, condition: Value, x: Operand, y: Operand) -> Value:
    chosen = x if isinstance(x, Value) else y if isinstance(y, Value) else self
    return self.build.op("Where", condition, chosen.constant_like(x), chosen.constant_like(y))


def _reshape(self: Value, a: Value, shape: Sequence[int]) -> Value:
    return self.build.op("Reshape", a, self.build.constant(np.array(shape, np.int64)))


def _transpose(self: Value, a: Value, axes: Sequence[int] | None = None) -> Value:
    order = list(range(a.ndim))[::-1] if axes is None else [int(each) for each in axes]
    return a if order == list(range(a.ndim)) else self.build.op("Transpose", a, perm=order)


def _swapaxes(self: Value, a: Value, first: int, second: int) -> Value:
    order = list(range(a.ndim))
    order[first], order[second] = order[second], order[first]
    return _transpose(self, a, order)


def _broadcast_to(self: Value, a: Operand, shape: Sequence[int]) -> Value:
    return self.build.op(
        "Expand", self.constant_like(a), self.build.constant(np.array(shape, np.int64))
    )


def _concatenate(self: Value, arrays: Sequence[Operand], axis: int = 0) -> Value:
    return self.build.op("Concat", *self._values(arrays), axis=axis)


def _expand_dims(self: Value, a: Value, axis: int | Sequence[int]) -> Value:
    axes = np.atleast_1d(np.asarray(axis))
    rank = a.ndim + len(axes)
    return with_axes("Unsqueeze", a, sorted(int(each) % rank for each in axes))


FUNCTIONS: dict[Any, Callable[..., Value]] = {
    np.where: _where,
    np.sum: _reduce("ReduceSum"),
    np.mean: _reduce("ReduceMean"),
    np.max: _reduce("ReduceMax"),
    np.min: _reduce("ReduceMin"),
    np.prod: _reduce("ReduceProd"),
    np.reshape: _reshape,
    np.transpose: _transpose,
    np.swapaxes: _swapaxes,
    np.broadcast_to: _broadcast_to,
    np.concatenate: _concatenate,
    np.expand_dims: _expand_dims,
    np.squeeze: lambda self, a, axis: with_axes("Squeeze", a, _axes(a, axis)),
}
