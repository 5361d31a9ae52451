"""The table of gradient rules: one row an operator, one function an input.

A rule for `y = op(x0, x1, …)` is a function `(g, y, x0, x1, …, *, attributes) -> Value` for each input
that a derivative can flow into: `g` is the cotangent of `y`, the result that of the input, up to
broadcasting, which the sweep undoes. Keyword-only parameters are attributes, or inputs that hold
numbers (axes, pads, ranges), under their newest names; they are checked against the schemas of ONNX when
the table is made. An input without a function (an index, a weight) gets no gradient.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cache
from typing import Any, TypeAlias

import onnx_graphsurgeon as gs

from onnxcam.graph.attributes import arguments, known_names
from onnxcam.graph.operators import operator_key
from onnxcam.graph.tracing import Builder, Value
from onnxcam.graph.window import Window

Vjp: TypeAlias = Callable[..., Value]
EVERY = 10**6  # more inputs than any node has
DERIVED = {"window", "slot"}  # keyword-only names that are worked out, not read


class Form(Enum):
    """How a rule's functions are laid out."""

    PER_INPUT = "one function an input"
    VARIADIC = "one function for all inputs, told which by `slot`"
    OUTPUTS = "one function of all outputs: g and y are tuples, None where there is no cotangent"


@dataclass(frozen=True)
class Rule:
    """The gradient of one operator."""

    functions: tuple[Vjp | None, ...]
    form: Form = Form.PER_INPUT

    def function(self, slot: int) -> Vjp | None:
        """The function of an input, None if no derivative flows into it."""
        if self.form is Form.VARIADIC:
            return self.functions[0]
        return self.functions[slot] if slot < len(self.functions) else None

    def cotangent(self, build: Builder, node: gs.Node, slot: int, gs_: list[Value | None]) -> Value:
        """The cotangent of an input, given those of the outputs."""
        function = self.function(slot)
        assert function is not None  # noqa: S101  the sweep asks for no other
        ys = [None if each.is_empty() else Value(build, each) for each in node.outputs]
        xs = [None if each.is_empty() else Value(build, each) for each in node.inputs]
        g, y = (gs_, ys) if self.form is Form.OUTPUTS else (gs_[0], ys[0])
        count, names = _parameters(function)
        missing = [None] * (count - len(xs)) if count < EVERY else []
        return function(g, y, *(xs + missing)[:count], **_named(build, node, slot, names))


@cache
def _parameters(function: Vjp) -> tuple[int, tuple[str, ...]]:
    """How many inputs a function takes (EVERY for all), and its keyword-only names."""
    parameters = inspect.signature(function).parameters.values()
    if any(each.kind is each.VAR_POSITIONAL for each in parameters):
        count = EVERY
    else:
        count = sum(each.kind is each.POSITIONAL_OR_KEYWORD for each in parameters) - 2
    names = tuple(each.name for each in parameters if each.kind is each.KEYWORD_ONLY)
    return count, names


def _named(build: Builder, node: gs.Node, slot: int, names: tuple[str, ...]) -> dict[str, Any]:
    found = arguments(node, (name for name in names if name not in DERIVED), build.opset)
    for name, each in found.items():
        if isinstance(each, gs.Variable):
            found[name] = Value(build, each)
    if "window" in names:
        found["window"] = Window.from_node(node, build.opset)
    if "slot" in names:
        found["slot"] = slot
    return found


class Rules(Mapping[str, Rule]):
    """Operators (`Relu`, or `com.microsoft::Gelu`) and their rules. `|` makes a changed copy."""

    def __init__(self, rules: Mapping[str, Rule] | None = None) -> None:
        self._rules: dict[str, Rule] = dict(rules or {})

    def __getitem__(self, operator: str) -> Rule:
        return self._rules[operator]

    def __iter__(self) -> Iterator[str]:
        return iter(self._rules)

    def __len__(self) -> int:
        return len(self._rules)

    def __or__(self, other: Mapping[str, Rule]) -> Rules:
        return Rules({**self._rules, **other})

    def rule_for(self, node: gs.Node) -> Rule | None:
        """The rule of a node's operator."""
        return self._rules.get(operator_key(node.op, node.domain))

    def vjp(self, operator: str, *functions: Vjp | None, domain: str = "") -> None:
        """Enter one function for each input, None for an input without a gradient."""
        self._enter(operator, Rule(functions), domain)

    def variadic(self, operator: str, function: Vjp, domain: str = "") -> None:
        """Enter one function for an operator of any number of like inputs."""
        self._enter(operator, Rule((function,), Form.VARIADIC), domain)

    def outputs(self, operator: str, *functions: Vjp | None, domain: str = "") -> None:
        """Enter functions that take the cotangents of all outputs."""
        self._enter(operator, Rule(functions, Form.OUTPUTS), domain)

    def _enter(self, operator: str, rule: Rule, domain: str) -> None:
        name = operator_key(operator, domain)
        if name in self._rules:
            raise ValueError(f"{name} has two rules")
        for function in filter(None, rule.functions):
            wrong = set(_parameters(function)[1]) - known_names(operator, domain) - DERIVED
            if wrong:
                raise ValueError(f"the rule of {name} asks for {sorted(wrong)}, which it has not")
        self._rules[name] = rule
