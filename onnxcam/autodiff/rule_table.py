"""The table of gradient rules: one row per operator, one function per input.

A rule for `y = op(x0, x1, …)` has a function `(g, y, x0, x1, …, *, attributes) -> Value` for each input that
gets a gradient: `g` is the cotangent of `y`, the result that of the input, None if nothing flows there. The
sweep undoes broadcasting.
Keyword-only parameters are attributes, or inputs that hold settings (axes, pads, ranges), by the names of the
newest opset; they are checked against the schemas of ONNX when the table is built. Some are computed: `window`,
`slot` (the number of the input), `reference`, a function that returns the value of the same tensor on the
reference image (see `reference.py`), and `absorb`, a function that takes what goes to no input. An input
without a function (an index, a weight) gets no gradient.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cache
from typing import Any, TypeAlias

import onnx_graphsurgeon as gs

from onnxcam.graph.attributes import argument_names, arguments
from onnxcam.graph.operators import operator_key
from onnxcam.graph.tracing import Builder, Value
from onnxcam.graph.window import Window

Vjp: TypeAlias = Callable[..., Any]  # a Value, or None
Start: TypeAlias = Callable[[Value, Value], Value]
Reference: TypeAlias = Callable[[Value], Value]
Absorb: TypeAlias = Callable[[Value], None]
ALL_INPUTS = 10**6  # more than any node has
COMPUTED = {
    "window",
    "slot",
    "reference",
    "absorb",
}  # keyword-only parameters that are neither attributes nor inputs


class Form(Enum):
    """Which functions a rule has, and what they get."""

    PER_INPUT = "one function per input"
    VARIADIC = "one function for all inputs, which gets the input's `slot`"
    OUTPUTS = "one function per input, for all outputs: g and y are lists, None where there is no cotangent"


@dataclass(frozen=True)
class Rule:
    """The gradient of one operator, in all its forms or in those that `covers` accepts."""

    functions: tuple[Vjp | None, ...]
    form: Form = Form.PER_INPUT
    covers: Callable[[gs.Node], bool] | None = None

    def function(self, slot: int) -> Vjp | None:
        """The function for an input, None if it gets no gradient."""
        if self.form is Form.VARIADIC:
            return self.functions[0]
        return self.functions[slot] if slot < len(self.functions) else None

    def cotangent(
        self,
        build: Builder,
        node: gs.Node,
        slot: int,
        cotangents: list[Value | None],
        reference: Reference | None = None,
        absorb: Absorb | None = None,
    ) -> Value | None:
        """The cotangent of an input, from those of the outputs; None if nothing flows there."""
        function = self.function(slot)
        assert function is not None  # noqa: S101  the sweep skips the others
        ys = [None if tensor.is_empty() else Value(build, tensor) for tensor in node.outputs]
        xs = [None if tensor.is_empty() else Value(build, tensor) for tensor in node.inputs]
        g, y = (cotangents, ys) if self.form is Form.OUTPUTS else (cotangents[0], ys[0])
        count, names = _parameters(function)
        missing = [None] * (count - len(xs)) if count < ALL_INPUTS else []
        keywords = _keywords(build, node, slot, names)
        computed = {"reference": reference, "absorb": absorb}
        keywords |= {name: computed[name] for name in computed if name in names}
        cotangent: Value | None = function(g, y, *(xs + missing)[:count], **keywords)
        return cotangent

    def takes(self, parameter: str) -> bool:
        """Whether a function has this keyword-only parameter."""
        return any(parameter in _parameters(vjp)[1] for vjp in self.functions if vjp)


def with_parameter(vjp: Vjp, parameter: str) -> Callable[[Vjp], Vjp]:
    """Decorates a function of the parameters of a rule `vjp`, and of one more: it gets their signature."""

    def decorate(function: Vjp) -> Vjp:
        def extended_vjp(*values: Any, **settings: Any) -> Any:
            return function(*values, **settings)

        signature = inspect.signature(vjp)
        keyword = inspect.Parameter(parameter, inspect.Parameter.KEYWORD_ONLY)
        parameters = [*signature.parameters.values(), keyword]
        vars(extended_vjp)["__signature__"] = signature.replace(parameters=parameters)
        return extended_vjp

    return decorate


@cache
def _parameters(function: Vjp) -> tuple[int, tuple[str, ...]]:
    """How many inputs a function takes (or ALL_INPUTS), and its keyword-only parameters."""
    parameters = inspect.signature(function).parameters.values()
    if any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters):
        count = ALL_INPUTS
    else:
        positional = inspect.Parameter.POSITIONAL_OR_KEYWORD
        count = sum(parameter.kind is positional for parameter in parameters) - 2  # g and y
    keywords = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
    return count, tuple(keywords)


def _keywords(build: Builder, node: gs.Node, slot: int, names: tuple[str, ...]) -> dict[str, Any]:
    values = arguments(node, (name for name in names if name not in COMPUTED), build.opset)
    for name, value in values.items():
        if isinstance(value, gs.Variable):
            values[name] = Value(build, value)
    if "window" in names:
        values["window"] = Window.from_node(node, build.opset)
    if "slot" in names:
        values["slot"] = slot
    return values


class Rules(Mapping[str, Rule]):
    """Operators (`Relu`, or `com.microsoft::Gelu`) and their rules. `|` returns a copy with other rules.

    `start` makes the first cotangent from the seed and the score; by default it is the seed.
    """

    def __init__(self, rules: Mapping[str, Rule] | None = None, start: Start | None = None) -> None:
        self._rules: dict[str, Rule] = dict(rules or {})
        self.start = start

    def __getitem__(self, operator: str) -> Rule:
        return self._rules[operator]

    def __iter__(self) -> Iterator[str]:
        return iter(self._rules)

    def __len__(self) -> int:
        return len(self._rules)

    def __or__(self, other: Mapping[str, Rule]) -> Rules:
        start = other.start if isinstance(other, Rules) else None
        return Rules({**self._rules, **other}, start or self.start)

    def without(self, *operators: str) -> Rules:
        """A copy without the rules of these operators, which then are replaced by their definitions."""
        remaining = {name: rule for name, rule in self._rules.items() if name not in operators}
        return Rules(remaining, self.start)

    @property
    def needs_reference(self) -> bool:
        """Whether a rule compares with the values on a reference image, another input of the gradient."""
        return any(rule.takes("reference") for rule in self._rules.values())

    @property
    def absorbs(self) -> bool:
        """Whether a rule says what goes to no input, another output of the gradient."""
        return any(rule.takes("absorb") for rule in self._rules.values())

    def rule_for(self, node: gs.Node) -> Rule | None:
        """The rule of a node's operator; None if there is none, or none for its form."""
        rule = self._rules.get(operator_key(node.op, node.domain))
        return None if rule is None or (rule.covers and not rule.covers(node)) else rule

    def vjp(self, operator: str, *functions: Vjp | None, domain: str = "") -> None:
        """Add one function per input, None for an input without a gradient."""
        self._add(operator, Rule(functions), domain)

    def variadic(self, operator: str, function: Vjp, domain: str = "") -> None:
        """Add one function for an operator with any number of inputs of the same kind."""
        self._add(operator, Rule((function,), Form.VARIADIC), domain)

    def outputs(
        self,
        operator: str,
        *functions: Vjp | None,
        domain: str = "",
        covers: Callable[[gs.Node], bool] | None = None,
    ) -> None:
        """Add one function per input that gets the cotangents of all outputs. Nodes that `covers` does not
        accept have no rule.
        """
        self._add(operator, Rule(functions, Form.OUTPUTS, covers), domain)

    def _add(self, operator: str, rule: Rule, domain: str) -> None:
        name = operator_key(operator, domain)
        if name in self._rules:
            raise ValueError(f"{name} has two rules")
        for function in filter(None, rule.functions):
            unknown = set(_parameters(function)[1]) - argument_names(operator, domain) - COMPUTED
            if unknown:
                raise ValueError(
                    f"the rule of {name} has parameters {sorted(unknown)}, which are not attributes of {name}"
                )
        self._rules[name] = rule
