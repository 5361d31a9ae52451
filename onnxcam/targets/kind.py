"""Kinds of targets other than classes: an expression over the tensors of the model, and its cotangent.

The expression is written into the graph; the cotangent is chosen when the model is run.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from onnxcam.registry import Registry
from onnxcam.targets.target import Target

Expression = Callable[..., Any]
Select = Callable[..., Target]
OUTPUT = "onnxcam/output"  # the name under which an expression finds the output that is explained
REFERENCE = "reference"  # the group of a pattern that names a file to compare with


@dataclass(frozen=True)
class TargetKind:
    """A kind of target.

    Attributes:
        pattern: what a user writes.
        expression: takes a mapping from the names of tensors to graph Values, in which OUTPUT is the output
            that is explained, and groups of the pattern by their names; returns the Value (N, …) of which a
            weighted sum is explained.
        select: takes the match and the shape (…) of one image's values, and returns the target with its
            weights. If the pattern has the group REFERENCE, it also takes the numbers (n,) in that file, or
            those that the expression has for that image.
    """

    name: str
    pattern: re.Pattern[str]
    expression: Expression
    select: Select

    def arguments(self, match: re.Match[str]) -> tuple[str, ...]:
        """What the expression depends on: the groups of the pattern that it has parameters for."""
        return tuple(match[name] for name in self._parameters)

    def write(self, tensors: Mapping[str, Any], arguments: tuple[str, ...]) -> Any:
        """The expression on Values."""
        return self.expression(tensors, **dict(zip(self._parameters, arguments, strict=True)))

    @property
    def compares(self) -> bool:
        """Whether the target names a file to compare with."""
        return REFERENCE in self.pattern.groupindex

    @property
    def _parameters(self) -> list[str]:
        return [*inspect.signature(self.expression).parameters][1:]


TARGETS: Registry[TargetKind] = Registry("kind of target")


def target_kind(name: str, pattern: str, select: Select) -> Callable[[Expression], Expression]:
    """A decorator that adds an expression to the table of targets; see `TargetKind`."""

    def register(expression: Expression) -> Expression:
        TARGETS.add(name, TargetKind(name, re.compile(pattern, re.DOTALL), expression, select))
        return expression

    return register


def find_kind(spec: object) -> tuple[TargetKind, re.Match[str]] | None:
    """The kind of a target and the match of its pattern; None for a class."""
    if not isinstance(spec, str):
        return None
    matches = ((kind, kind.pattern.fullmatch(spec.strip())) for kind in TARGETS.values())
    return next(((kind, match) for kind, match in matches if match), None)
