"""Inline a model's own functions where they are called, within a budget."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TypeAlias

import onnx
from onnx import inliner

from onnxcam.errors import ModelError
from onnxcam.model.proto.walk import CycleError, Scope, dependency_order, nested_scopes

MAX_NODES = 1 << 14  # ONNX Runtime may take minutes to open the gradient of so many
SHALLOW_DEPTH = 8  # levels of functions, as exporters write the modules of a network
MAX_DEEP_NODES = 1 << 11  # with functions nested deeper, each calling the next repeatedly
MAX_BYTES = 1 << 31  # of a protocol buffer
MAX_DEPTH = 100  # of functions that call each other

FunctionKey: TypeAlias = tuple[str, str, str]


@dataclass(frozen=True)
class Cost:
    """The size of a graph or function once all its calls are inlined."""

    nodes: int
    size: int  # bytes
    depth: int


def inline_functions(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The model with its functions inlined; check them with `check_functions` first."""
    return inliner.inline_local_functions(proto)


def check_functions(proto: onnx.ModelProto, name: str) -> None:
    """ModelError if functions call themselves, or exceed a budget once they are inlined."""
    if not proto.functions:
        return
    cost = _cost(proto.graph, _costs(proto, name))
    max_nodes = MAX_NODES if cost.depth <= SHALLOW_DEPTH else MAX_DEEP_NODES
    budgets = {
        f"{cost.nodes} nodes, {max_nodes} at most": cost.nodes > max_nodes,
        f"{cost.size} bytes, {MAX_BYTES} at most": cost.size > MAX_BYTES,
        f"functions nested {cost.depth} deep, {MAX_DEPTH} at most": cost.depth > MAX_DEPTH,
    }
    if exceeded := [budget for budget, is_exceeded in budgets.items() if is_exceeded]:
        raise ModelError(
            f"{name}: with its functions inlined, the model is too large ({'; '.join(exceeded)}); "
            "export the model without functions"
        )


def _costs(proto: onnx.ModelProto, name: str) -> dict[FunctionKey, Cost]:
    """The cost of each function. ModelError if one calls itself."""
    functions = {(f.domain, f.name, f.overload): f for f in proto.functions}
    calls = [set(_call_counts(function)) for function in functions.values()]
    try:
        order = dependency_order(calls, [[key] for key in functions])
    except CycleError as error:
        key = list(functions)[error.index]
        raise ModelError(
            f"{name}: the function {key[1]!r} calls itself, directly or through others; "
            "export the model without functions"
        ) from error
    costs: dict[FunctionKey, Cost] = {}
    for index in order:
        key = list(functions)[index]
        costs[key] = _cost(functions[key], costs)
    return costs


def _cost(scope: Scope, costs: dict[FunctionKey, Cost]) -> Cost:
    calls = {key: times for key, times in _call_counts(scope).items() if key in costs}
    nodes = sum(len(inner.node) for inner in nested_scopes(scope)) - sum(calls.values())
    return Cost(
        min(nodes + sum(costs[key].nodes * times for key, times in calls.items()), 1 << 62),
        min(
            scope.ByteSize() + sum(costs[key].size * times for key, times in calls.items()), 1 << 62
        ),
        max((costs[key].depth + 1 for key in calls), default=0),
    )


def _call_counts(scope: Scope) -> Counter[FunctionKey]:
    """How often each operator is called, functions among them."""
    return Counter(
        (node.domain, node.op_type, node.overload)
        for inner in nested_scopes(scope)
        for node in inner.node
    )
