"""A model's own functions, inlined where they are called, within a budget."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TypeAlias

import onnx
from onnx import inliner

from onnxcam.errors import ModelError
from onnxcam.model.proto.walk import CycleError, Scope, order_by_need, scopes

MOST_NODES = 1 << 14  # ONNX Runtime may take minutes to open the gradient of so many
SHALLOW = 8  # levels of functions, as exporters write the modules of a network
DOUBLED = 1 << 11  # nodes of functions that are nested deeper, each calling the next repeatedly
MOST_BYTES = 1 << 31  # of a protocol buffer
DEEPEST = 100  # functions that call each other

Key: TypeAlias = tuple[str, str, str]


@dataclass(frozen=True)
class Cost:
    """The size of a graph or function once all its calls are inlined."""

    nodes: int
    size: int  # bytes
    depth: int


def inline_functions(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The model with its functions inlined."""
    return inliner.inline_local_functions(proto)


def check_calls(proto: onnx.ModelProto, name: str) -> None:
    """ModelError if functions call themselves, or exceed a budget once they are inlined."""
    if not proto.functions:
        return
    cost = _cost(proto.graph, _costs(proto, name))
    most = MOST_NODES if cost.depth <= SHALLOW else DOUBLED
    budgets = {
        f"{cost.nodes} nodes, {most} at most": cost.nodes > most,
        f"{cost.size} bytes, {MOST_BYTES} at most": cost.size > MOST_BYTES,
        f"functions nested {cost.depth} deep, {DEEPEST} at most": cost.depth > DEEPEST,
    }
    if over := [said for said, is_over in budgets.items() if is_over]:
        raise ModelError(
            f"{name}: with its functions inlined, the model is too large ({'; '.join(over)}); "
            "export the model without functions"
        )


def _costs(proto: onnx.ModelProto, name: str) -> dict[Key, Cost]:
    functions = {(f.domain, f.name, f.overload): f for f in proto.functions}
    calls = [set(_calls(function)) for function in functions.values()]
    try:
        order = order_by_need(calls, [[key] for key in functions])
    except CycleError as error:
        key = list(functions)[error.place]
        raise ModelError(
            f"{name}: the function {key[1]!r} calls itself, directly or through others; "
            "export the model without functions"
        ) from error
    costs: dict[Key, Cost] = {}
    for place in order:
        key = list(functions)[place]
        costs[key] = _cost(functions[key], costs)
    return costs


def _cost(scope: Scope, costs: dict[Key, Cost]) -> Cost:
    calls = {key: times for key, times in _calls(scope).items() if key in costs}
    nodes = sum(len(inner.node) for inner in scopes(scope)) - sum(calls.values())
    return Cost(
        min(nodes + sum(costs[key].nodes * times for key, times in calls.items()), 1 << 62),
        min(
            scope.ByteSize() + sum(costs[key].size * times for key, times in calls.items()), 1 << 62
        ),
        max((costs[key].depth + 1 for key in calls), default=0),
    )


def _calls(scope: Scope) -> Counter[Key]:
    """How often each operator is called, functions among them."""
    return Counter(
        (node.domain, node.op_type, node.overload) for inner in scopes(scope) for node in inner.node
    )
