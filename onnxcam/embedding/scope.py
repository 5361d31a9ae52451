"""The two graphs that an explanation is written into: the outer one, and the body of a Loop that runs once for
each round. If there is one round, both are the same, and no Loop is written.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import onnx_graphsurgeon as gs

from onnxcam.arrays import FLOAT32, Array, Dim
from onnxcam.errors import ModelError
from onnxcam.graph import anp
from onnxcam.graph.tracing import Builder, Value
from onnxcam.model.file_facts import type_name
from onnxcam.model.model import STRING_KINDS

INT64, BOOL = np.dtype(np.int64), np.dtype(np.bool_)
UNSELECTABLE = ("float8_", "float6_", "float4_", "int4", "uint4", "int2", "uint2", "type ")


@dataclass
class Result:
    """What the rounds return: a Value of the outer graph, after `Scope.close`."""

    body: Value
    outer: Value | None = None

    @property
    def value(self) -> Value:
        """The Value of the outer graph."""
        if self.outer is None:
            raise ValueError("the rounds are not closed")
        return self.outer


@dataclass
class Scope:
    """Where Values are written.

    Attributes:
        outer: writes the graph of the file.
        body: writes what is run in each round; the same if there is one round.
        rounds: the number of rounds.
        image: the images (N, ...) in the outer graph.
        captured: the tensors of the outer graph that the body reads, by name.
    """

    outer: Builder
    body: Builder
    rounds: int
    image: Value
    captured: dict[str, gs.Tensor] = field(default_factory=dict)
    _number: Value | None = None
    _states: list[tuple[Value, gs.Variable, Result]] = field(default_factory=list)
    _stacks: list[Result] = field(default_factory=list)

    @property
    def images(self) -> Dim:
        """The size of the batch of images."""
        return self.image.shape[0]

    @property
    def is_loop(self) -> bool:
        """Whether the rounds are run by a Loop."""
        return self.body is not self.outer

    @property
    def number(self) -> Value:
        """The number of the round, from 0."""
        if self._number is None:
            tensor = gs.Variable(self.body.unique_name("round"), INT64, [])
            self.body.tensors[tensor.name] = tensor
            self._number = Value(self.body, tensor)
        return self._number

    def capture(self, value: Value) -> Value:
        """A Value of the outer graph in the body."""
        if not self.is_loop or value.build is self.body:
            return value
        constant = value.constant
        if constant is not None and constant.size == 1:
            return self.body.constant(constant)
        if value.name not in self.captured:
            tensor = gs.Variable(value.name, value.dtype, list(value.shape))
            self.captured[value.name] = tensor
        return Value(self.body, self.captured[value.name])

    def pick(self, table: Array) -> Value:
        """The row of the round in a table (rounds, ...), in the body."""
        if not self.is_loop:
            return self.body.constant(table[0])
        return self.body.op("Gather", self.body.constant(table), self.number, axis=0)

    def from_first_round(self, value: Value) -> Result:
        """What the first round computes, for all rounds."""
        if not self.is_loop:
            return Result(value, value)
        carried = value.astype(_carried_dtype(value.dtype))
        state = self._new_state(carried)
        is_first = anp.equal(self.number, 0)
        chosen = self.body.op("Where", is_first, carried, state, shape=value.shape)
        return self._carry(state, chosen.astype(value.dtype), chosen)

    def total(self, value: Value, factor: Value | None = None) -> Result:
        """The sum over the rounds. Before this round's value is added, the sum is multiplied by a factor."""
        if not self.is_loop:
            return Result(value, value)
        state = self._new_state(value)
        before = state if factor is None else state * factor
        total = before + value
        return self._carry(state, total, total)

    def largest(self, value: Value) -> tuple[Value, Result]:
        """What was the largest of the non-negative numbers of the rounds before, and what it is now."""
        if not self.is_loop:
            return value, Result(value, value)
        state = self._new_state(value)
        largest = anp.maximum(state, value)
        return state, self._carry(state, largest, largest)

    def stack(self, value: Value) -> Result:
        """The values (N, rows) of all rounds side by side (N, rounds * rows)."""
        if not self.is_loop:
            return Result(value, value)
        self._stacks.append(Result(value))
        return self._stacks[-1]

    def _new_state(self, like: Value) -> Value:
        name = self.body.unique_name("state")
        tensor = gs.Variable(name, like.dtype, list(like.shape))
        self.body.tensors[name] = tensor
        return Value(self.body, tensor)

    def _carry(self, state: Value, result: Value, updated: Value) -> Result:
        """Register a state and what it becomes in a round; the result is the body's Value."""
        carried = Result(result)
        self._states.append((updated, state.tensor, carried))
        return carried

    def zeros(self, shape: tuple[Dim, ...], dtype: Any) -> Value:
        """Zeros or empty texts in the outer graph; sizes may be numbers or that of the batch, as the first."""
        if not all(isinstance(size, int) or size == self.images for size in shape[1:]):
            raise ModelError(
                f"a value of {[size or '?' for size in shape]} is not of one size, so a Loop cannot keep it; "
                "export the model without outputs of changing size, and for images of one size"
            )
        outer = self.outer
        numbers = [size if isinstance(size, int) else 1 for size in shape]
        sizes = outer.constant(np.array(numbers, np.int64))
        is_free = np.array([not isinstance(size, int) for size in shape], np.bool_)
        if is_free.any():
            first = outer.op("Gather", outer.op("Shape", self.image), outer.constant([0]), axis=0)
            sizes = cast(Value, anp.where(is_free, first, sizes))
        if np.dtype(dtype).kind in STRING_KINDS:
            return outer.op("Expand", outer.constant(np.array([""])), sizes, shape=shape)
        value = gs.Constant("value", np.zeros(1, dtype))
        return outer.op("ConstantOfShape", sizes, value=value, shape=shape)

    def close(self, prepare: Callable[[gs.Graph], gs.Graph]) -> None:
        """Write the Loop, whose body a function prepares, and tell the results their Values after it."""
        body, outer = self.body, self.outer
        condition = gs.Variable(body.unique_name("condition"), BOOL, [])
        continues = gs.Variable(body.unique_name("continues"), BOOL, [])
        body.graph.nodes.append(gs.Node("Identity", continues.name, {}, [condition], [continues]))
        updates = [self._output(updated) for updated, _, _ in self._states]
        stacked = [self._output(result.body) for result in self._stacks]
        graph = body.graph
        graph.inputs = [self.number.tensor, condition, *(state for _, state, _ in self._states)]
        graph.outputs = [continues, *updates, *stacked]
        graph = prepare(graph)
        results = [result for _, _, result in self._states] + self._stacks
        tensors = [
            gs.Variable(outer.unique_name("rounds"), tensor.dtype, list(tensor.shape or ()))
            for tensor in [*updates, *stacked]
        ]
        initial = [self.zeros(tuple(state.shape), state.dtype) for _, state, _ in self._states]
        count, always = outer.constant(np.int64(self.rounds)), outer.constant(np.bool_(True))
        node = gs.Node(
            "Loop",
            outer.unique_name("Loop"),
            {"body": graph},
            [count.tensor, always.tensor, *(value.tensor for value in initial)],
            tensors,
        )
        outer.graph.nodes.append(node)
        for tensor, result in zip(tensors, results, strict=True):
            outer.tensors[tensor.name] = tensor
            value = Value(outer, tensor)
            if any(result is stack for stack in self._stacks):
                value = self._side_by_side(value, result.body)
            result.outer = value.astype(result.body.dtype)

    def _output(self, value: Value) -> gs.Variable:
        """A tensor that the body returns; every output has a tensor of its own."""
        tensor = gs.Variable(self.body.unique_name("returned"), value.dtype, list(value.shape))
        self.body.graph.nodes.append(gs.Node("Identity", tensor.name, {}, [value.tensor], [tensor]))
        return tensor

    def _side_by_side(self, stacked: Value, row: Value) -> Value:
        """(rounds, N, rows) -> (N, rounds * rows)."""
        stacked.tensor.shape = [self.rounds, *row.shape]
        turned = anp.transpose(stacked, (1, 0, 2))
        width = self.rounds * int(row.shape[1])  # type: ignore[arg-type]
        return anp.reshape(
            turned, (-1 if not isinstance(row.shape[0], int) else row.shape[0], width)
        )


def _carried_dtype(dtype: Any) -> np.dtype[Any]:
    """The dtype in which values of another are carried from round to round: ONNX Runtime has no Where for most
    short and unsigned integers and for bfloat16.
    """
    name = np.dtype(dtype).name
    if name.startswith(("bool", "int", "uint")):
        return INT64 if name in ("int64", "uint32", "uint64") else np.dtype(np.int32)
    return FLOAT32 if name == "bfloat16" else np.dtype(dtype)


def require_selectable(output: str, dtype: Any) -> None:
    """ModelError for an output of a type of less than 16 bits of which no operator selects the rows of an
    image, as of float8: they are computed together with those of its samples.
    """
    name = type_name(dtype) if isinstance(dtype, int) else np.dtype(dtype).name
    if name.startswith(UNSELECTABLE):
        raise ModelError(
            f"the output {output!r} is {name}, which ONNX cannot divide into the rows of images and those of "
            "their samples; cast the output to float16 or float32 in the model, or choose a method without "
            "samples (see `onnxcam methods`)"
        )
