"""Replace an operator by simpler ones: one table of decompositions, and one way to apply a row.

A row is a function of the operator's inputs, None for an input that is left out, with the operator's attributes
as keywords and their defaults: its signature is the operator's. It writes operators through the Values it
receives, and returns the output, a tuple of outputs, or None for a form that it does not support. A row with a
parameter `node` receives the node that is replaced, too.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import TypeAlias

import onnx_graphsurgeon as gs

from onnxcam.errors import ModelError, NeedsOpsetError
from onnxcam.graph.tracing import Builder, Value

Outputs: TypeAlias = tuple[Value | None, ...]
Formula: TypeAlias = Callable[..., Value | Outputs | None]


class Stage(Enum):
    """When an operator is replaced.

    LOADING: in every walk of `canonicalize`. Operators that only ONNX Runtime has.
    QUANTIZED: in a walk after that (`integer_ops`), as some forms depend on what reads the output.
    GRADIENT: only where a gradient passes and the operator has no rule (`expand_functions`).
    """

    LOADING = auto()
    QUANTIZED = auto()
    GRADIENT = auto()


LENIENT = {Stage.LOADING, Stage.QUANTIZED}
"""Stages at which an operator stays as it is if its row fails, as perhaps no gradient passes through it. At the
others the error of the row reaches the user."""


@dataclass(frozen=True)
class Decomposition:
    """One row: what replaces an operator, and when."""

    formula: Formula
    stage: Stage
    signature: inspect.Signature


DECOMPOSITIONS: dict[tuple[str, str], Decomposition] = {}  # by domain and operator


def decomposes(*operators: str, stage: Stage, domain: str = "") -> Callable[[Formula], Formula]:
    """Add the decorated function to the table, for operators that have the same inputs and attributes."""

    def add(formula: Formula) -> Formula:
        for operator in operators:
            if (domain, operator) in DECOMPOSITIONS:
                raise ValueError(f"two decompositions of {domain}::{operator}")
            row = Decomposition(formula, stage, inspect.signature(formula))
            DECOMPOSITIONS[domain, operator] = row
        return formula

    return add


def decomposed_operators(stage: Stage) -> set[tuple[str, str]]:
    """Domain and name of the operators that are replaced at a stage."""
    return {key for key, row in DECOMPOSITIONS.items() if row.stage is stage}


def decompose(
    node: gs.Node, graph: gs.Graph, preserved: Collection[str], stages: Collection[Stage]
) -> list[gs.Node] | None:
    """Nodes that compute the outputs of a node of `graph`, under the same names. None leaves the node as it is:
    it has no row for these stages, or its row does not support this form.

    The node is disconnected, in place; the caller inserts the new nodes. `preserved`: names of outputs that are
    needed even if no node reads them. NeedsOpsetError for a new operator that the graph's opset lacks.
    """
    row = DECOMPOSITIONS.get((node.domain or "", node.op))
    if row is None or row.stage not in stages:
        return None
    build = Builder(gs.Graph(opset=graph.opset, import_domains=graph.import_domains))
    build.tensors |= {tensor.name: tensor for tensor in node.inputs}
    try:
        values = _needed_outputs(row, node, build, preserved)
    except Exception:
        _disconnect(build.graph.nodes)
        raise
    if values is None:
        _disconnect(build.graph.nodes)
        return None
    return _replace(node, build.graph.nodes, values)


def _needed_outputs(
    row: Decomposition, node: gs.Node, build: Builder, preserved: Collection[str]
) -> list[Value | None] | None:
    """The value of every output that is needed, None for the others; None for a form that is not supported."""
    values = _apply_row(row, node, build)
    is_needed = [bool(tensor.outputs) or tensor.name in preserved for tensor in node.outputs]
    values += (None,) * (len(is_needed) - len(values))
    values = tuple(value if need else None for need, value in zip(is_needed, values, strict=False))
    if any(need and value is None for need, value in zip(is_needed, values, strict=True)):
        return None
    return list(values)


def _apply_row(row: Decomposition, node: gs.Node, build: Builder) -> Outputs:
    inputs = [None if tensor.is_empty() else Value(build, tensor) for tensor in node.inputs]
    keywords = dict(node.attrs)
    if "node" in row.signature.parameters:
        keywords["node"] = node
    try:
        row.signature.bind(*inputs, **keywords)
    except TypeError:  # an input or an attribute that the row does not have
        return ()
    try:
        result = row.formula(*inputs, **keywords)
    except NeedsOpsetError:
        raise
    except (ModelError, ValueError):  # for example a shape that is not known
        if row.stage not in LENIENT:
            raise
        return ()
    return result if isinstance(result, tuple) else (result,)


def _disconnect(nodes: Sequence[gs.Node]) -> None:
    for node in nodes:
        node.inputs.clear()
        node.outputs.clear()


def _replace(node: gs.Node, nodes: list[gs.Node], values: Sequence[Value | None]) -> list[gs.Node]:
    """Let the new nodes write the outputs of the node, in place; returns them with an Identity for each output
    that is an input or another output.
    """
    outputs, inputs = list(node.outputs), {id(tensor) for tensor in node.inputs}
    prefix = next(tensor.name for tensor in outputs if not tensor.is_empty())
    _disconnect([node])
    _rename(nodes, inputs, prefix)
    written = {id(tensor) for new in nodes for tensor in new.outputs}
    for value, output in zip(values, outputs, strict=True):
        if value is None:
            continue
        if id(value.tensor) in written:
            written.discard(id(value.tensor))
            _substitute(nodes, value.tensor, output)
        else:
            nodes.append(gs.Node("Identity", output.name, {}, [value.tensor], [output]))
    return list(nodes)


def _rename(nodes: Sequence[gs.Node], inputs: Collection[int], prefix: str) -> None:
    """Name the new nodes, their outputs and their constants after the output of the node that they replace."""
    new_ids = {id(node) for node in nodes}
    for i, node in enumerate(nodes):
        node.name = f"{prefix}/{node.op}_{i}"
        for slot, tensor in enumerate(node.outputs):
            tensor.name = f"{node.name}:{slot}" if slot else node.name
        for slot, tensor in enumerate(node.inputs):
            if not isinstance(tensor, gs.Constant) or id(tensor) in inputs:
                continue
            if {id(reader) for reader in tensor.outputs} <= new_ids:
                tensor.name = f"{node.name}/{slot}"


def _substitute(nodes: Sequence[gs.Node], inner: gs.Tensor, outer: gs.Tensor) -> None:
    """Put the tensor `outer` in place of `inner`, with the dtype of `inner`."""
    if inner.dtype is not None:
        outer.dtype = inner.dtype
    for node in nodes:
        for tensors in (node.inputs, node.outputs):
            for slot, tensor in enumerate(tensors):
                if tensor is inner:
                    tensors[slot] = outer
