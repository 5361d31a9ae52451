"""Patterns of written nodes, and how they are matched."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import TypeAlias

import onnx_graphsurgeon as gs

from onnxcam.graph.reachability import producer
from onnxcam.graph.tracing import Value

Bindings: TypeAlias = dict[str, gs.Tensor]
COMMUTATIVE = {"Add", "Mul"}


@dataclass(frozen=True)
class Pattern:
    """A node with this operator whose inputs match. A word matches any tensor, and always the same tensor
    within a pattern; `_` matches any tensor and is not passed on.
    """

    operator: str
    inputs: tuple[Pattern | str, ...]
    name: str = ""  # the word for the output


@dataclass(frozen=True)
class Peephole:
    """A pattern, and the function that writes its replacement.

    `rewrite` gets the tensors by their words. It returns the output of a new node, or None if it does not
    apply.
    """

    pattern: Pattern
    rewrite: Callable[..., Value | None]


def node(operator: str, *inputs: Pattern | str, name: str = "") -> Pattern:
    """A pattern that reads as a formula: `node("Add", node("Mul", "h", "a"), node("Mul", "h", "b"))`."""
    return Pattern(operator, inputs, name)


def matches(
    pattern: Pattern | str, tensor: gs.Tensor, written: Collection[int], bound: Bindings
) -> Iterator[Bindings]:
    """Every way in which a tensor matches, in both orders of commutative operands.

    A pattern matches only nodes whose `id` is among the written ones; a word matches tensors of the model, too.
    """
    if isinstance(pattern, str):
        if pattern == "_":
            yield bound
        elif bound.get(pattern, tensor) is tensor:
            yield {**bound, pattern: tensor}
        return
    node = producer(tensor)
    if node is None or node.op != pattern.operator or id(node) not in written:
        return
    if len(node.inputs) != len(pattern.inputs) or len(node.outputs) != 1:
        return
    bound = {**bound, pattern.name: tensor} if pattern.name else bound
    commutes = pattern.operator in COMMUTATIVE
    for inputs in permutations(node.inputs) if commutes else (tuple(node.inputs),):
        yield from _match_all(pattern.inputs, inputs, written, bound)


def _match_all(
    patterns: Sequence[Pattern | str],
    tensors: Sequence[gs.Tensor],
    written: Collection[int],
    bound: Bindings,
) -> Iterator[Bindings]:
    if not patterns:
        yield bound
        return
    for first in matches(patterns[0], tensors[0], written, bound):
        yield from _match_all(patterns[1:], tensors[1:], written, first)
