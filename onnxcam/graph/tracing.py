"""Values, which write NumPy's operations on them into a graph, and the Builder that writes the graph.

`anp.where(y > 0, g, 0.0)` on Values writes Greater and Where into the graph. This uses NumPy's own
dispatch (NEP 13 and NEP 18): the same formula computes on arrays and writes operators for Values.
`anp` has the table of the functions that Values support.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

import numpy as np
import onnx_graphsurgeon as gs
from numpy.lib.mixins import NDArrayOperatorsMixin
from numpy.typing import NDArray

from onnxcam.arrays import Array, Shape, is_integer
from onnxcam.errors import ModelError, unknown
from onnxcam.graph.constants import constant_values
from onnxcam.graph.dims import is_static
from onnxcam.graph.opset import schema_accepting, type_code, type_name
from onnxcam.graph.shape_inference import Dtype, infer

PREFIX = "onnxcam"  # of the names of new nodes and tensors
HASHED_BYTES = 4096  # of a constant, as hashing all of a kernel takes longer than to compare it
NOT_NUMBERS = "OSUcmM"  # kinds of dtypes: objects, texts, complex numbers, times

WRITERS: dict[Callable[..., Any], Callable[..., Value]] = {}
"""How each function of NumPy is written into a graph: `anp` fills it, one row per function."""


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
        """The size of each axis: a number, a name, or None. ModelError if not even the rank is known."""
        if self.tensor.shape is None:
            raise ModelError(
                f"the shape of tensor {self.name!r} cannot be inferred; "
                "export the model with shapes, or run ONNX's shape inference on it first"
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
            raise ModelError(
                f"the type of tensor {self.name!r} cannot be inferred; "
                "export the model with types, or run ONNX's shape inference on it first"
            )
        dtype = self.tensor.dtype
        return dtype if isinstance(dtype, int) else np.dtype(dtype)

    @property
    def constant(self) -> Array | None:
        """The values if they are constant (also those of a dequantized weight), else None."""
        return constant_values(self.tensor)

    def astype(self, dtype: Any, *, copy: bool = False) -> Value:
        """This value in a dtype (NumPy's, or the number of an ONNX type); the Cast is written only if it has
        another. `copy` is for the arrays that a formula also takes; a Value needs no copy.
        """
        del copy
        target = dtype if isinstance(dtype, int) else np.dtype(dtype)
        return self if self.dtype == target else self.build.op("Cast", self, to=type_code(target))

    def constant_like(self, operand: Operand | Sequence[float]) -> Value:
        """A number or an array as a constant in this value's dtype; in its own if it is bool, if this value is,
        or if floats would become integers.
        """
        if isinstance(operand, Value):
            return operand
        array = np.asarray(operand)
        if array.dtype.kind in NOT_NUMBERS:
            raise TypeError(f"{operand!r} is no number and no array of numbers")
        return self.build.constant(array, self.dtype if self._can_hold(array) else array.dtype)

    def _can_hold(self, array: Array) -> bool:
        """Whether the numbers of an array mean the same in this dtype."""
        if isinstance(self.dtype, int) or self.dtype == np.bool_:
            return False
        is_number = np.issubdtype(np.result_type(array.dtype, np.float32), np.floating)
        becomes_integer = is_integer(self.dtype) and not is_integer(array.dtype)
        return is_number and array.dtype != np.bool_ and not becomes_integer

    def __array_ufunc__(
        self, ufunc: np.ufunc, method: str, *operands: Operand, **options: Any
    ) -> Any:
        if method != "__call__" or options or ufunc not in WRITERS:
            call = f"np.{ufunc.__name__}" + f".{method}" * (method != "__call__")
            raise _unsupported(call + f" with {', '.join(options)}=" * bool(options))
        return WRITERS[ufunc](*(self.constant_like(operand) for operand in operands))

    def __array_function__(
        self, function: Any, types: Any, operands: Sequence[Any], options: dict[str, Any]
    ) -> Any:
        del types
        if function not in WRITERS:
            module = function.__module__.removeprefix("numpy.").replace("numpy", "")
            raise _unsupported(f"np.{module}.{function.__name__}".replace("..", "."))
        return WRITERS[function](*operands, **options)

    def __getitem__(self, index: Any) -> Value:
        return WRITERS[operator.getitem](self, index)

    # without these, Python would take numbers out of a Value by itself: all of them, none, or without an end

    def __iter__(self) -> NoReturn:
        raise TypeError(
            f"{self!r} cannot be iterated over: index it, or use a function of its axis"
        )

    def __contains__(self, element: object) -> NoReturn:
        raise TypeError(f"whether {element!r} is in {self!r} is unknown until the graph runs")

    def __bool__(self) -> NoReturn:
        raise TypeError(f"whether {self!r} is true is unknown until the graph runs: use np.where")

    if not TYPE_CHECKING:  # that Values are no arrays is known there

        def __array__(self, *dtype: Any, **options: Any) -> NoReturn:
            raise TypeError(f"{self!r} is no array: it has no numbers until the graph runs")

    if TYPE_CHECKING:  # what the mixin does with Values; its own annotations say Any

        def __lt__(self, other: Operand) -> Value: ...
        def __le__(self, other: Operand) -> Value: ...
        def __gt__(self, other: Operand) -> Value: ...
        def __ge__(self, other: Operand) -> Value: ...
        def __eq__(self, other: Operand) -> Value: ...  # type: ignore[override]
        def __ne__(self, other: Operand) -> Value: ...  # type: ignore[override]
        def __add__(self, other: Operand) -> Value: ...
        def __radd__(self, other: Operand) -> Value: ...
        def __sub__(self, other: Operand) -> Value: ...
        def __rsub__(self, other: Operand) -> Value: ...
        def __mul__(self, other: Operand) -> Value: ...
        def __rmul__(self, other: Operand) -> Value: ...
        def __truediv__(self, other: Operand) -> Value: ...
        def __rtruediv__(self, other: Operand) -> Value: ...
        def __matmul__(self, other: Operand) -> Value: ...
        def __rmatmul__(self, other: Operand) -> Value: ...
        def __pow__(self, other: Operand) -> Value: ...
        def __rpow__(self, other: Operand) -> Value: ...
        def __neg__(self) -> Value: ...
        def __abs__(self) -> Value: ...


def _unsupported(call: str) -> TypeError:
    return TypeError(
        f"{call} cannot be written into a graph; the functions that can are those of onnxcam.graph.anp"
    )


Operand: TypeAlias = Value | NDArray[Any] | np.generic | float
"""What is computed with: a Value, an array or a number."""


class Builder:
    """Appends operators to a graph whose nodes are in order, with the dtypes and shapes of their outputs.

    The same operator on the same operands is written once. An operator that the model's opset does not
    have, or not with these types and attributes, raises NeedsOpsetError.
    """

    def __init__(self, graph: gs.Graph, first: int = 0) -> None:
        self.graph, self._count = graph, first  # the number in the first new name
        self.opsets = {opset.domain: opset.version for opset in graph.import_domains}
        self.opsets[""] = self.opset = graph.opset
        self.tensors: dict[str, gs.Tensor] = graph.tensors()
        self._written: dict[object, tuple[Value, ...]] = {}
        self._constants: dict[object, list[gs.Constant]] = {}
        self.batch: Value | None = None  # a graph input of the same batch, to read its size from

    def value(self, name: str) -> Value:
        """The tensor of this name; UnknownNameError if there is none."""
        if name not in self.tensors:
            hint = "see `onnxcam check` for the input and the score, `onnxcam layers --all` for the layers"
            raise unknown("tensor", name, self.tensors, hint)
        return Value(self, self.tensors[name])

    def constant(self, array: Any, dtype: Any = None) -> Value:
        """A constant; arrays of equal content, dtype and shape are stored once."""
        with np.errstate(over="ignore"):  # becomes infinite, as in the runtime
            values = np.ascontiguousarray(np.asarray(array, dtype=dtype))
        values = values.reshape(np.shape(array))
        content = values.reshape(-1).view(np.uint8)
        key = values.dtype.str, values.shape, content[:HASHED_BYTES].tobytes()
        constants = self._constants.setdefault(key, [])
        for tensor in constants:
            if np.array_equal(tensor.values.reshape(-1).view(np.uint8), content):
                return Value(self, tensor)
        constants.append(gs.Constant(self.unique_name("constant"), values))
        return Value(self, constants[-1])

    def op(
        self,
        operator: str,
        *operands: Value | None,
        shape: Shape | None = None,
        **attributes: Any,
    ) -> Value:
        """The first output of a new node; see `ops`."""
        return self.ops(operator, *operands, outputs=1, shape=shape, **attributes)[0]

    def ops(
        self,
        operator: str,
        *operands: Value | None,
        outputs: int,
        shape: Shape | None = None,
        **attributes: Any,
    ) -> tuple[Value, ...]:
        """The outputs of a new node of the default domain. An operand None is an optional input that is left
        out. `shape` is that of the first output, where the caller knows more than the inference.
        """
        attributes = {name: value for name, value in attributes.items() if value is not None}
        names = [None if operand is None else operand.name for operand in operands]
        key = (operator, outputs, *names, repr(attributes))
        # a pass may have detached the node from the graph since
        if key not in self._written or not self._written[key][0].tensor.inputs:
            self._written[key] = self._write(operator, operands, outputs, shape, attributes)
        return self._written[key]

    def _write(
        self,
        operator: str,
        operands: Sequence[Value | None],
        outputs: int,
        shape: Shape | None,
        attributes: dict[str, Any],
    ) -> tuple[Value, ...]:
        types = tuple(None if operand is None else type_name(operand.dtype) for operand in operands)
        schema_accepting(operator, self.opset, types, frozenset(attributes))
        name = self.unique_name(operator)
        node = gs.Node(
            operator,
            name,
            attributes,
            [gs.Variable.empty() if operand is None else operand.tensor for operand in operands],
            [gs.Variable(name if i == 0 else f"{name}:{i}") for i in range(outputs)],
        )
        for tensor, inferred in zip(node.outputs, infer(node, self.opsets), strict=True):
            if inferred is not None:
                tensor.dtype, tensor.shape = inferred
            self.tensors[tensor.name] = tensor
        if shape is not None:
            node.outputs[0].shape = shape
        self.graph.nodes.append(node)
        return tuple(Value(self, tensor) for tensor in node.outputs)

    def output(self, value: Value, name: str) -> None:
        """Add a graph output of this name; ModelError if the name is taken."""
        self._check_free(name)
        tensor = gs.Variable(name, value.dtype, list(value.shape))
        self.graph.nodes.append(gs.Node("Identity", name, {}, [value.tensor], [tensor]))
        self.graph.outputs.append(tensor)

    def unique_name(self, stem: str) -> str:
        """A name that no tensor has, made of a word and a number."""
        while (name := f"{PREFIX}/{stem}_{self._count}") in self.tensors:
            self._count += 1
        self._count += 1
        return name

    def input(self, name: str, dtype: Dtype, shape: Shape) -> Value:
        """Add a graph input; ModelError if the name is taken."""
        self._check_free(name)
        tensor = gs.Variable(name, dtype, list(shape))
        self.graph.inputs.append(tensor)
        self.tensors[name] = tensor
        return Value(self, tensor)

    def _check_free(self, name: str) -> None:
        if name in self.tensors:
            raise ModelError(
                f"the model already has a tensor named {name!r}, a reserved name; rename it, or, if "
                "`onnxcam augment` wrote the model, use the original model"
            )

    def second_output(self, first: Value, dtype: Dtype) -> Value:
        """The second output of the node that writes `first`; the node gets it if it has none."""
        return self.request_output(first, 1, dtype, first.shape)

    def request_output(self, value: Value, slot: int, dtype: Dtype, shape: Shape) -> Value:
        """An output of the node that writes `value`; the node gets it if it has none."""
        node = value.tensor.inputs[0]
        while len(node.outputs) <= slot:
            node.outputs.append(gs.Variable.empty())
        if node.outputs[slot].is_empty():
            tensor = gs.Variable(self.unique_name(f"{node.op}_{slot}"), dtype, list(shape))
            self.tensors[tensor.name] = tensor
            node.outputs[slot] = tensor
        return Value(self, node.outputs[slot])

    def shape_of(self, value: Value) -> Value:
        """The shape of a value as int64 (rank,), a constant if all sizes are known."""
        if is_static(value.shape):
            return self.constant(np.array(value.shape, np.int64))
        batch, *rest = value.shape
        if self.batch is not None and self.batch.shape[:1] == (batch,) and is_static(tuple(rest)):
            first = self.op("Gather", self.op("Shape", self.batch), self.constant([0]), axis=0)
            return self.op("Concat", first, self.constant(np.array(rest, np.int64)), axis=0)
        return self.op("Shape", value)

    def reshape_like(self, value: Value, pattern: Value) -> Value:
        """The value reshaped to the shape of `pattern`, which has as many elements."""
        if value.shape == pattern.shape:
            return value
        target = self.constant(_reshape_target(pattern.shape))
        if np.count_nonzero(target.constant == -1) > 1:
            target = self.shape_of(pattern)
        return self.op("Reshape", value, target, shape=pattern.shape)


def _reshape_target(shape: Shape) -> Array:
    """The shape with -1 for unknown sizes: Reshape takes it if there is one of them at most."""
    return np.array([dim if isinstance(dim, int) else -1 for dim in shape], np.int64)
