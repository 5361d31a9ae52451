"""The reverse sweep: cotangents from a score back to the requested tensors."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import onnx_graphsurgeon as gs

from onnxcam.arrays import Dim
from onnxcam.autodiff.lowering.masks import is_step
from onnxcam.autodiff.rule_table import Absorb, Form, Reference, Rules
from onnxcam.autodiff.unsupported import blocking_nodes, reasons
from onnxcam.autodiff.weight_inputs import REASON, readers_of_computed_weights
from onnxcam.errors import BlockedError, MissingRuleError
from onnxcam.graph import anp
from onnxcam.graph.node_errors import name_of, reports_node
from onnxcam.graph.operators import operator_key
from onnxcam.graph.reachability import FlowPredicate, Subgraph, is_float, subgraph_between
from onnxcam.graph.slicing import dim_size, with_axes
from onnxcam.graph.tracing import Builder, Value


def propagates(rules: Rules) -> FlowPredicate:
    """Whether a derivative flows through an input of a node; True for an operator without a rule. None flows
    through the masks that gradients are written with, so that second derivatives do not follow them.
    """

    def carries(node: gs.Node, slot: int) -> bool:
        rule = rules.rule_for(node)
        if is_step(node):
            return False
        return is_float(node.inputs[slot]) and (rule is None or rule.function(slot) is not None)

    return carries


@reports_node
def differentiable_path(
    graph: gs.Graph, wrt: Collection[str], of: Collection[str], rules: Rules
) -> Subgraph:
    """The nodes that a derivative flows through. MissingRuleError lists all operators without a rule."""
    path = subgraph_between(graph, wrt, of, propagates(rules))
    weight_readers = readers_of_computed_weights(graph, path.tensors.intersection(wrt), of, rules)
    missing: dict[str, list[str]] = {}
    for node in path.nodes:
        if rules.rule_for(node) is None:
            missing.setdefault(operator_key(node.op, node.domain), []).append(
                node.name or node.outputs[0].name
            )
    explanations = reasons(missing)
    for node in weight_readers:
        missing.setdefault(node.op, []).append(node.name or node.outputs[0].name)
        explanations[node.op] = REASON
    if missing:
        raise MissingRuleError(missing, explanations)
    return path


def backward(
    build: Builder,
    seeds: Mapping[str, Value],
    wrt: Collection[str],
    rules: Rules,
    reference: Reference | None = None,
    absorb: Absorb | None = None,
) -> dict[str, Value]:
    """The cotangents of the tensors `wrt`, from those of others (`seeds`); writes them into the graph.

    A tensor that no seed's tensor depends on is left out. BlockedError names the obstacle if one depends on it
    but no derivative flows. Only nodes on the path are visited, each of them once. A tensor with several
    readers gets the sum of their cotangents. `reference` is required if the rules need it; `absorb` gets what
    they say that goes to no input.
    """
    if rules.needs_reference and reference is None:
        raise ValueError("these rules compare with a reference: write it with `write_reference`")
    path = differentiable_path(build.graph, wrt, seeds, rules)
    for name in wrt:
        if name not in path.tensors:
            raise_if_blocked(build.graph, name, seeds, rules)
    pending: dict[str, list[Value]] = {name: [seed] for name, seed in seeds.items()}
    summed: dict[str, Value] = {}

    def take_cotangent(tensor: gs.Tensor) -> Value | None:
        terms = pending.pop(tensor.name, None)
        if terms:
            summed[tensor.name] = _add_up(terms)
        return summed.get(tensor.name)

    for node in reversed(path.nodes):
        cotangents = [take_cotangent(tensor) for tensor in node.outputs]
        rule = rules.rule_for(node)
        if rule is None or all(g is None for g in cotangents):
            continue
        if rule.form is not Form.OUTPUTS and any(g is not None for g in cotangents[1:]):
            raise MissingRuleError({f"{node.op} (second output)": [node.name]})
        for slot, tensor in enumerate(node.inputs):
            if tensor.name in path.tensors and rule.function(slot) is not None:
                cotangent = rule.cotangent(
                    build, node, slot, cotangents, reference, absorb or _ignore
                )
                if cotangent is None:
                    continue
                x, y = Value(build, tensor), Value(build, node.outputs[0])
                pending.setdefault(tensor.name, []).append(unbroadcast(cotangent, x, y))
    return {name: g for name in wrt if (g := take_cotangent(build.tensors[name])) is not None}


def _ignore(_: Value) -> None:
    """What goes to no input is not asked for."""


def raise_if_blocked(graph: gs.Graph, name: str, of: Collection[str], rules: Rules) -> None:
    """BlockedError if values flow from a tensor to `of` but no derivative does."""
    if obstacles := blocking_nodes(graph, name, of, rules):
        others = f" (and {len(obstacles) - 1} more)" if len(obstacles) > 1 else ""
        node, reason = obstacles[0]
        raise BlockedError(
            f"no gradient reaches {name!r} from {', '.join(map(repr, of))}: "
            f"{operator_key(node.op, node.domain)} ({name_of(node)}) {reason}{others}",
            name_of(node),
        )


def _add_up(terms: list[Value]) -> Value:
    if len(terms) == 1:
        return terms[0]
    total = terms[0].build.op("Sum" if len(terms) > 2 else "Add", *terms)
    total.tensor.shape = list(terms[0].shape)
    return total


def unbroadcast(cotangent: Value, x: Value, y: Value) -> Value:
    """The cotangent summed over the axes along which `x` was broadcast, in the dtype of `x`."""
    cotangent = cotangent.astype(x.dtype)
    if cotangent.shape != x.shape and y.shape != x.shape:
        lead = cotangent.ndim - x.ndim
        sizes = list(zip(cotangent.shape[lead:], x.shape, strict=True))
        axes = [lead + axis for axis, (wide, narrow) in enumerate(sizes) if narrow == 1 != wide]
        if axes or lead:
            cotangent = anp.sum(cotangent, axis=(*range(lead), *axes), keepdims=True)
        if any(isinstance(narrow, str) and narrow != wide != 1 for wide, narrow in sizes):
            cotangent = _unbroadcast_at_run_time(cotangent, x, lead)
        if lead:
            cotangent = with_axes("Squeeze", cotangent, range(lead))
    if cotangent.shape != x.shape:
        if cotangent.name == y.name or not cotangent.tensor.inputs:
            return cotangent
        cotangent.tensor.shape = list(x.shape)
    return cotangent


ALLOWS_EMPTY = 14  # the first opset in which Reshape takes sizes of 0


def _unbroadcast_at_run_time(cotangent: Value, x: Value, lead: int) -> Value:
    """The sum over the axes that turn out to be 1 in `x` and larger in the cotangent: of each undecided axis,
    the n numbers are cut into as many rows as x has there, and these are summed.

    Axes that were computed would be no constants, which OpenVINO requires.
    """
    undecided = [
        axis
        for axis, (wide, narrow) in enumerate(zip(cotangent.shape[lead:], x.shape, strict=True))
        if isinstance(narrow, str) and narrow != wide != 1
    ]
    build, last = x.build, undecided[-1]
    targets, shape, summed = list[Value](), list[Dim](), list[int]()
    for axis in range(-lead, x.ndim):
        narrow = build.constant(np.ones(1, np.int64)) if axis < 0 else dim_size(x, axis)
        targets.append(narrow)
        shape.append(1 if axis < 0 else x.shape[axis])
        if axis in undecided:
            targets.append(
                _row_length(build, dim_size(cotangent, lead + axis), narrow, axis == last)
            )
            summed.append(len(shape))
            shape.append(None)
    target, empty = build.op("Concat", *targets, axis=0), {"allowzero": 1}
    options = empty if build.opset >= ALLOWS_EMPTY else {}
    rows = build.op("Reshape", cotangent, target, shape=tuple(shape), **options)
    return with_axes("ReduceSum", rows, summed, keepdims=0)


def _row_length(build: Builder, wide: Value, narrow: Value, is_last: bool) -> Value:
    """How many numbers of a cotangent are summed for each of `narrow`, which may be 0 if the opset allows."""
    if build.opset >= ALLOWS_EMPTY:
        return build.op("Div", wide, anp.maximum(narrow, 1))
    return build.constant(np.array([-1])) if is_last else build.op("Div", wide, narrow)
