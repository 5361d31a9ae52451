"""The table of fused operators, and putting what they stand for in their place.

A row is a function of the operator's inputs, None where one is left out, with its attributes as keywords
and their defaults: its signature is the operator's. It writes standard operators and returns the output, or a
tuple of outputs; None for a form that it does not know.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Sequence
from typing import TypeAlias

import onnx_graphsurgeon as gs

from onnxcam.errors import ModelError
from onnxcam.graph.constants import CONTRIB
from onnxcam.graph.opset import NeedsOpsetError
from onnxcam.graph.tracing import Builder, Value

NCHWC = "com.microsoft.nchwc"  # what is stored in blocks of channels (see `blocked`)
Outputs: TypeAlias = tuple[Value | None, ...]
Meaning: TypeAlias = Callable[..., Value | Outputs | None]
FUSED: dict[tuple[str, str], Meaning] = {}


def decomposes(*operators: str, domain: str = CONTRIB) -> Callable[[Meaning], Meaning]:
    """Enter what operators of one form stand for."""

    def enter(function: Meaning) -> Meaning:
        for operator in operators:
            if (domain, operator) in FUSED:
                raise ValueError(f"{domain}::{operator} is entered twice")
            FUSED[domain, operator] = function
        return function

    return enter


def decompose(node: gs.Node, graph: gs.Graph, kept: Collection[str]) -> list[gs.Node] | None:
    """The nodes that stand for a fused one of `graph`, and write what it wrote under the same names. None for
    one that is not in the table or of a form that is not known; ModelError where nothing else could be done
    with it either.

    `kept` are the names that must be written, read or not. NeedsOpsetError for an operator that the
    opset lacks.
    """
    nodes = _meant(node, graph, kept)
    if nodes is None and node.domain == NCHWC:
        raise ModelError(
            f"{NCHWC}::{node.op} ({node.name or node.outputs[0].name}) is made for one kind of processor and "
            "cannot be read; save the optimised model at the level ORT_ENABLE_EXTENDED, or use the original"
        )
    return nodes


def _meant(node: gs.Node, graph: gs.Graph, kept: Collection[str]) -> list[gs.Node] | None:
    function = FUSED.get((node.domain or "", node.op))
    if function is None or not _fits(function, node):
        return None
    build = _builder(graph, node)
    given = [None if each.is_empty() else Value(build, each) for each in node.inputs]
    try:
        found = function(*given, **node.attrs)
    except NeedsOpsetError:
        _disconnect(build.graph.nodes)
        raise
    except (ModelError, ValueError):  # a shape that it needs is not known, or an attribute
        found = None
    values = found if isinstance(found, tuple) else (found,)
    values += (None,) * (len(node.outputs) - len(values))
    needed = [bool(each.outputs) or each.name in kept for each in node.outputs]
    wanted = [each if need else None for need, each in zip(needed, values, strict=False)]
    if any(need and each is None for need, each in zip(needed, wanted, strict=True)):
        _disconnect(build.graph.nodes)
        return None
    return _in_place(node, build, wanted)


def _fits(function: Meaning, node: gs.Node) -> bool:
    try:
        inspect.signature(function).bind(*node.inputs, **node.attrs)
    except TypeError:
        return False
    return True


def _builder(graph: gs.Graph, node: gs.Node) -> Builder:
    """A builder of a graph for the nodes of one operator."""
    build = Builder(gs.Graph(opset=graph.opset, import_domains=graph.import_domains))
    build.tensors |= {each.name: each for each in node.inputs}
    return build


def _disconnect(nodes: Sequence[gs.Node]) -> None:
    for each in nodes:
        each.inputs.clear()
        each.outputs.clear()


def _in_place(node: gs.Node, build: Builder, values: Sequence[Value | None]) -> list[gs.Node]:
    nodes, outputs = build.graph.nodes, list(node.outputs)
    prefix = next(each.name for each in outputs if not each.is_empty())
    own = {id(each) for each in node.inputs}
    node.inputs.clear()
    node.outputs.clear()
    _rename(nodes, own, prefix)
    written = {id(each) for inner in nodes for each in inner.outputs}
    for value, output in zip(values, outputs, strict=True):
        if value is None:
            continue
        if id(value.tensor) in written:
            written.discard(id(value.tensor))
            _become(nodes, value.tensor, output)
        else:
            nodes.append(gs.Node("Identity", output.name, {}, [value.tensor], [output]))
    return list(nodes)


def _rename(nodes: Sequence[gs.Node], own: Collection[int], prefix: str) -> None:
    """Name what was written after what the fused operator wrote."""
    for i, inner in enumerate(nodes):
        inner.name = f"{prefix}/{inner.op}_{i}"
        for slot, each in enumerate(inner.outputs):
            each.name = f"{inner.name}:{slot}" if slot else inner.name
        for slot, each in enumerate(inner.inputs):
            if isinstance(each, gs.Constant) and id(each) not in own:
                each.name = f"{inner.name}/{slot}"


def _become(nodes: Sequence[gs.Node], inner: gs.Tensor, outer: gs.Tensor) -> None:
    for node in nodes:
        for tensors in (node.inputs, node.outputs):
            for slot, each in enumerate(tensors):
                if each is inner:
                    tensors[slot] = outer
