"""The reverse sweep: cotangents from a score back to the tensors that are asked for."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import onnx_graphsurgeon as gs

from onnxcam.autodiff.lowering.nchwc import factors, sum_spatial, with_product
from onnxcam.autodiff.rule_table import Form, Rules, key
from onnxcam.autodiff.unsupported import blocking_nodes, reasons
from onnxcam.autodiff.weight_inputs import REASON, readers_of_computed_weights
from onnxcam.errors import BlockedError, MissingRuleError
from onnxcam.graph.node_errors import name_of, reports_node
from onnxcam.graph.reachability import FlowPredicate, Subgraph, is_float, subgraph_between
from onnxcam.graph.slicing import PRECISE
from onnxcam.graph.tracing import Builder
from onnxcam.graph.value import Value, np, with_axes


def propagates(rules: Rules) -> FlowPredicate:
    """Whether a derivative flows through an input of a node; taken to where there is no rule."""

    def through(node: gs.Node, slot: int) -> bool:
        rule = rules.rule_for(node)
        return is_float(node.inputs[slot]) and (rule is None or rule.function(slot) is not None)

    return through


@reports_node
def differentiable_path(
    graph: gs.Graph, wrt: Collection[str], of: Collection[str], rules: Rules
) -> Subgraph:
    """The nodes that a derivative flows through. MissingRuleError that lists all without a rule."""
    path = subgraph_between(graph, wrt, of, propagates(rules))
    computed = readers_of_computed_weights(graph, path.tensors.intersection(wrt), of, rules)
    missing: dict[str, list[str]] = {}
    for node in path.nodes:
        if rules.rule_for(node) is None:
            missing.setdefault(key(node.op, node.domain or ""), []).append(
                node.name or node.outputs[0].name
            )
    explained = reasons(missing)
    for node in computed:
        missing.setdefault(node.op, []).append(node.name or node.outputs[0].name)
        explained[node.op] = REASON
    if missing:
        raise MissingRuleError(missing, explained)
    return path


def backward(
    build: Builder, seeds: Mapping[str, Value], wrt: Collection[str], rules: Rules
) -> dict[str, Value]:
    """The cotangents of the tensors `wrt`, given those of others; written into the graph.

    A tensor that the goals do not depend on is left out; BlockedError, which names the obstacle, if they do but
    no derivative flows. Only nodes on the path are visited, each once, and a
    tensor that is read more than once gets the sum.
    """
    path = differentiable_path(build.graph, wrt, seeds, rules)
    for name in wrt:
        if name not in path.tensors:
            raise_if_blocked(build.graph, name, seeds, rules)
    arriving: dict[str, list[Value]] = {name: [seed] for name, seed in seeds.items()}
    summed: dict[str, Value] = {}

    def take(tensor: gs.Tensor) -> Value | None:
        terms = arriving.pop(tensor.name, None)
        if terms:
            summed[tensor.name] = _sum(terms)
        return summed.get(tensor.name)

    for node in reversed(path.nodes):
        cotangents = [take(each) for each in node.outputs]
        rule = rules.rule_for(node)
        if rule is None or all(each is None for each in cotangents):
            continue
        if rule.form is not Form.OUTPUTS and any(each is not None for each in cotangents[1:]):
            raise MissingRuleError({f"{node.op} (second output)": [node.name]})
        for slot, tensor in enumerate(node.inputs):
            if tensor.name in path.tensors and rule.function(slot) is not None:
                found = rule.cotangent(build, node, slot, cotangents)
                fitted = unbroadcast(found, Value(build, tensor), Value(build, node.outputs[0]))
                arriving.setdefault(tensor.name, []).append(fitted)
    return {name: value for name in wrt if (value := take(build.tensors[name])) is not None}


def raise_if_blocked(graph: gs.Graph, name: str, of: Collection[str], rules: Rules) -> None:
    """BlockedError if values flow from a tensor to `of` but no derivative does."""
    if obstacles := blocking_nodes(graph, name, of, rules):
        more = f" (and {len(obstacles) - 1} more)" if len(obstacles) > 1 else ""
        node, why = obstacles[0]
        raise BlockedError(
            f"no gradient reaches {name!r} from {', '.join(map(repr, of))}: "
            f"{key(node.op, node.domain or '')} ({name_of(node)}) {why}{more}",
            name_of(node),
        )


def _sum(terms: list[Value]) -> Value:
    if len(terms) == 1:
        return terms[0]
    if (factored := _factored(terms)) is not None:
        return factored
    total = terms[0].build.op("Sum" if len(terms) > 2 else "Add", *terms)
    total.tensor.shape = list(terms[0].shape)
    return total


def _factored(terms: list[Value]) -> Value | None:
    """h (a + b) for h a + h b: a pass over memory less, and a + b is often known before h is."""
    pairs = [pair for each in terms if (pair := factors(each)) is not None]
    if not len(terms) == len(pairs) == 2:
        return None
    (h, a), (again, b) = pairs
    if again.name != h.name or h.dtype not in PRECISE or not h.shape == a.shape == b.shape:
        return None
    return h * (with_product(a, b) or a + b)


def unbroadcast(cotangent: Value, x: Value, y: Value) -> Value:
    """The cotangent summed over the axes along which `x` was broadcast, in the dtype of `x`."""
    cotangent = cotangent.astype(x.dtype)
    if cotangent.shape != x.shape and y.shape != x.shape:
        lead = cotangent.ndim - x.ndim
        pairs = list(zip(cotangent.shape[lead:], x.shape, strict=True))
        axes = [lead + i for i, (wide, own) in enumerate(pairs) if own == 1 != wide]
        pooled = sum_spatial(cotangent) if axes == [2, 3] and not lead else None
        if pooled is not None:
            cotangent = pooled
        elif axes or lead:
            cotangent = np.sum(cotangent, axis=(*range(lead), *axes), keepdims=True)
        if any(isinstance(own, str) and own != wide != 1 for wide, own in pairs):
            cotangent = _unbroadcast_at_run_time(cotangent, x, lead)
        if lead:
            cotangent = with_axes("Squeeze", cotangent, range(lead))
    if cotangent.shape != x.shape:
        if cotangent.name == y.name or not cotangent.tensor.inputs:
            return cotangent
        cotangent.tensor.shape = list(x.shape)
    return cotangent


def _unbroadcast_at_run_time(cotangent: Value, x: Value, lead: int) -> Value:
    """The sum over the axes that turn out to be 1 in `x` and more in the cotangent."""
    build = x.build
    one = build.constant(np.array([1], np.int64))
    own, wide = build.op("Shape", x), build.op("Shape", cotangent)
    if lead:
        own = build.op("Concat", build.constant(np.ones(lead, np.int64)), own, axis=0)
    stretched = np.logical_and(np.equal(own, one), np.not_equal(wide, one))
    axes = np.reshape(build.op("NonZero", stretched), [-1])
    shape = (1,) * lead + x.shape
    return build.op("ReduceSum", cotangent, axes, shape=shape, keepdims=1, noop_with_empty_axes=1)
