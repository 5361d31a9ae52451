"""Writing new operators into a graph, in linear time."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs

from onnxcam.arrays import Array
from onnxcam.errors import ModelError, unknown
from onnxcam.graph.opset import schema_accepting, type_name
from onnxcam.graph.shape_inference import Dtype, Shape, infer, is_static
from onnxcam.graph.value import Value

PREFIX = "onnxcam"


class Builder:
    """Appends operators to a graph whose nodes are in order; every one gets its dtype and shape.

    The same operator on the same operands is written once. An operator that the model's opset does
    not have in the form asked for raises NeedsOpsetError.
    """

    def __init__(self, graph: gs.Graph) -> None:
        self.graph = graph
        self.opsets = {each.domain: each.version for each in graph.import_domains}
        self.opsets[""] = self.opset = graph.opset
        self.tensors: dict[str, gs.Tensor] = graph.tensors()
        self._written: dict[object, tuple[Value, ...]] = {}
        self._count = 0
        self.batch: Value | None = (
            None  # an input of the same batch: its size needs no forward pass
        )

    def value(self, name: str) -> Value:
        """The tensor of that name; UnknownNameError with the close ones if there is none."""
        if name not in self.tensors:
            raise unknown("tensor", name, self.tensors, "see `onnxcam layers --all`")
        return Value(self, self.tensors[name])

    def constant(self, array: Any, dtype: Any = None) -> Value:
        """A constant; arrays of equal content, dtype and shape are stored once."""
        with np.errstate(over="ignore"):  # infinite, as where the runtime computes it
            values = np.ascontiguousarray(np.asarray(array, dtype=dtype))
        values = values.reshape(np.shape(array))
        content = sha256(values.reshape(-1).view(np.uint8).data).digest()
        key = ("constant", values.dtype.str, values.shape, content)
        if key not in self._written:
            self._written[key] = (Value(self, gs.Constant(self.unique_name("constant"), values)),)
        return self._written[key][0]

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
        """The outputs of a new node of the default domain. None is an input that is left out; `shape`
        says the first output's where the caller knows more than the inference.
        """
        given = {name: each for name, each in attributes.items() if each is not None}
        key = (
            operator,
            outputs,
            *(None if each is None else each.name for each in operands),
            repr(given),
        )
        if key not in self._written:
            self._written[key] = self._write(operator, operands, outputs, shape, given)
        return self._written[key]

    def _write(
        self,
        operator: str,
        operands: Sequence[Value | None],
        outputs: int,
        shape: Shape | None,
        attributes: dict[str, Any],
    ) -> tuple[Value, ...]:
        types = tuple(None if each is None else type_name(each.dtype) for each in operands)
        schema_accepting(operator, self.opset, types, frozenset(attributes))
        name = self.unique_name(operator)
        node = gs.Node(
            operator,
            name,
            attributes,
            [gs.Variable.empty() if each is None else each.tensor for each in operands],
            [gs.Variable(name if i == 0 else f"{name}:{i}") for i in range(outputs)],
        )
        for tensor, found in zip(node.outputs, infer(node, self.opsets), strict=True):
            if found is not None:
                tensor.dtype, tensor.shape = found
            self.tensors[tensor.name] = tensor
        if shape is not None:
            node.outputs[0].shape = shape
        self.graph.nodes.append(node)
        return tuple(Value(self, each) for each in node.outputs)

    def output(self, value: Value, name: str) -> None:
        """Let the graph return a value under a name of its own; ModelError if the name is taken."""
        self._check_free(name)
        tensor = gs.Variable(name, value.dtype, list(value.shape))
        self.graph.nodes.append(gs.Node("Identity", name, {}, [value.tensor], [tensor]))
        self.graph.outputs.append(tensor)

    def unique_name(self, word: str) -> str:
        """A name that no tensor has."""
        while (name := f"{PREFIX}/{word}_{self._count}") in self.tensors:
            self._count += 1
        self._count += 1
        return name

    def input(self, name: str, dtype: Dtype, shape: Shape) -> Value:
        """A new graph input; ModelError if the name is taken."""
        self._check_free(name)
        tensor = gs.Variable(name, dtype, list(shape))
        self.graph.inputs.append(tensor)
        self.tensors[name] = tensor
        return Value(self, tensor)

    def _check_free(self, name: str) -> None:
        if name in self.tensors:
            raise ModelError(
                f"the model already has a tensor named {name!r}, which is reserved; rename it, or, if "
                "`onnxcam augment` wrote the model, use the original"
            )

    def second_output(self, first: Value, dtype: Dtype) -> Value:
        """The second output of the node that writes `first`, asked for if it is not yet."""
        return self.request_output(first, 1, dtype, first.shape)

    def request_output(self, written: Value, slot: int, dtype: Dtype, shape: Shape) -> Value:
        """An output of the node that writes `written`, asked for if it is not yet."""
        node = written.tensor.inputs[0]
        while len(node.outputs) <= slot:
            node.outputs.append(gs.Variable.empty())
        if node.outputs[slot].is_empty():
            tensor = gs.Variable(self.unique_name(f"{node.op}_{slot}"), dtype, list(shape))
            self.tensors[tensor.name] = tensor
            node.outputs[slot] = tensor
        return Value(self, node.outputs[slot])

    def shape_of(self, value: Value) -> Value:
        """The shape of a value as int64 (rank,): a constant where it is known."""
        if is_static(value.shape):
            return self.constant(np.array(value.shape, np.int64))
        batch, *rest = value.shape
        if self.batch is not None and self.batch.shape[:1] == (batch,) and is_static(tuple(rest)):
            first = self.op("Gather", self.op("Shape", self.batch), self.constant([0]), axis=0)
            return self.op("Concat", first, self.constant(np.array(rest, np.int64)), axis=0)
        return self.op("Shape", value)

    def reshape_like(self, value: Value, pattern: Value) -> Value:
        """`value` reshaped to the shape of `pattern`, which has as many elements."""
        if value.shape == pattern.shape:
            return value
        target = self.constant(_reshape_target(pattern.shape))
        if np.count_nonzero(target.constant == -1) > 1:
            target = self.shape_of(pattern)
        return self.op("Reshape", value, target, shape=pattern.shape)


def _reshape_target(shape: Shape) -> Array:
    """The shape with -1 for what is not a number: good for Reshape if that is one dimension."""
    return np.array([dim if isinstance(dim, int) else -1 for dim in shape], np.int64)
