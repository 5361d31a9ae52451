"""Operators taken apart into the simpler ones that ONNX defines them by, or that say the same."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, TypeAlias

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from onnx import defs, inliner
from onnx_graphsurgeon.exporters.onnx_exporter import OnnxExporter

from onnxcam.graph.opset import schema_at
from onnxcam.graph.shape_inference import type_proto
from onnxcam.graph.tracing import Builder, Value
from onnxcam.passes.canonicalize import canonicalize
from onnxcam.passes.deform_conv import deform_conv

MASKS = {"3", "6"}  # the inputs of Attention that can mask a whole row: attn_mask, nonpad_kv_seqlen
BRANCHING = {"If", "Loop", "Scan"}
HOME = "onnxcam.definition"  # the domain of definitions while they are put in
WHOLE = {  # taken apart they are random, loop, or round where a gradient should pass straight through
    *("Bernoulli", "DynamicQuantizeLinear", "Range", "SequenceMap"),
}
Meaning: TypeAlias = Callable[[Builder, gs.Node, list[Value | None]], Value | None]
CUSTOM_DEFINITIONS: dict[str, Meaning] = {
    "DeformConv": deform_conv
}  # of ours, where ONNX has no definition


def has_function_body(operator: str, opset: int) -> bool:
    """Whether there is a definition of this operator of the default domain in simpler ones."""
    if operator in CUSTOM_DEFINITIONS:
        return True
    schema = schema_at(operator, opset)
    if schema is None or operator in WHOLE:
        return False
    found = (schema.function_opset_versions, schema.context_dependent_function_opset_versions)
    return any(each <= opset for versions in found for each in versions)


def expand_functions(
    graph: gs.Graph, chosen: Collection[gs.Node], kept: Collection[str] = ()
) -> bool:
    """Take the chosen nodes of `graph` apart in place; False if none could be.

    What they wrote keeps its name and its values, and the tensors `kept` are there afterwards.
    """
    names, changed, nodes = {id(each) for each in chosen}, False, []
    for node in graph.nodes:
        body = _body(node, graph.opset) if id(node) in names else None
        nodes.extend([node] if body is None else _spliced(node, body))
        changed = changed or body is not None
    if changed:
        graph.nodes = nodes
        canonicalize(graph, kept)
    return changed


def _body(node: gs.Node, opset: int) -> gs.Graph | None:
    """The definition of a node: its inputs called 0, 1, ... and its outputs out:0, out:1, ..."""
    if node.domain not in (None, "", "ai.onnx") or not has_function_body(node.op, opset):
        return None
    types = [onnx.TypeProto() if each.is_empty() else type_proto(each) for each in node.inputs]
    schema = schema_at(node.op, opset)
    if schema is None or any(each is None for each in types):
        return None
    if node.op in CUSTOM_DEFINITIONS:
        return _meant(node, opset)
    alone = _alone(node, schema)
    function = _function(alone, schema, opset, types)
    function.domain = alone.domain = HOME
    named = [onnx.helper.make_value_info(n, t) for n, t in zip(alone.input, types, strict=True)]
    outputs = [onnx.helper.make_empty_tensor_value_info(n) for n in alone.output if n]
    whole = onnx.helper.make_model(
        onnx.helper.make_graph([alone], node.op, [each for each in named if each.name], outputs),
        functions=[function],
        opset_imports=[onnx.helper.make_opsetid("", opset), onnx.helper.make_opsetid(HOME, 1)],
    )
    written = inliner.inline_local_functions(whole, convert_version=True)
    if any(each.domain == HOME for each in written.graph.node):
        return None  # its definition cannot be had at this opset
    if any(inner.op_type in BRANCHING for inner in written.graph.node):
        return None  # no derivative is written for these: the operator itself is named as one without a rule
    body = gs.import_onnx(written)
    return _bounded(body) if node.op == "Attention" else body


def _meant(node: gs.Node, opset: int) -> gs.Graph | None:
    """The meaning of a node, named as a definition is."""
    graph = gs.Graph(opset=opset, import_domains=[onnx.helper.make_opsetid("", opset)])
    build = Builder(graph)
    given = [
        None if each.is_empty() else build.input(str(i), each.dtype, each.shape)
        for i, each in enumerate(node.inputs)
    ]
    written = CUSTOM_DEFINITIONS[node.op](build, node, given)
    if written is None:
        return None
    written.tensor.name = "out:0"
    graph.outputs = [written.tensor]
    return graph


def _bounded(body: gs.Graph) -> gs.Graph:
    """Attention with the lowest finite number for -inf before its Softmax, where there is a mask.

    Of a row that is masked altogether the Softmax is NaN, which is put to 0 behind it; its gradient
    would be NaN. No other row changes.
    """
    if {each.name for each in body.inputs}.isdisjoint(MASKS):
        return body
    nodes = []
    for node in body.nodes:
        if node.op == "Softmax" and (dtype := _cast_to(node.inputs[0])) is not None:
            lowest = gs.Constant("Lowest", np.array([np.finfo(dtype).min], dtype))
            finite = gs.Variable("Finite")
            nodes.append(gs.Node("Max", "Finite", {}, [node.inputs[0], lowest], [finite]))
            node.inputs[0] = finite
        nodes.append(node)
    body.nodes = nodes
    return body


def _cast_to(tensor: gs.Tensor) -> np.dtype[Any] | None:
    """The type of what a Cast writes, None for one that NumPy has not."""
    found = onnx.helper.tensor_dtype_to_np_dtype(tensor.inputs[0].attrs["to"])
    return found if found.kind == "f" else None


def _function(
    alone: onnx.NodeProto, schema: defs.OpSchema, opset: int, types: Sequence[onnx.TypeProto]
) -> onnx.FunctionProto:
    """The newest definition that the opset has, which some operators write for the types they get."""
    fixed = schema.function_opset_versions
    if fixed:
        content = schema.get_function_with_opset_version(_newest(fixed, opset))
    else:
        content = schema.get_context_dependent_function_with_opset_version(
            _newest(schema.context_dependent_function_opset_versions, opset),
            alone.SerializeToString(),
            [each.SerializeToString() for each in types],
        )
    return onnx.FunctionProto.FromString(content)


def _newest(versions: Sequence[int], opset: int) -> int:
    return max(each for each in versions if each <= opset)


def _alone(node: gs.Node, schema: defs.OpSchema) -> onnx.NodeProto:
    """The node with working names, and every default written out: onnx forgets them."""
    proto = OnnxExporter.export_node(node)
    inputs = ["" if each.is_empty() else str(i) for i, each in enumerate(node.inputs)]
    outputs = ["" if each.is_empty() else f"out:{i}" for i, each in enumerate(node.outputs)]
    del proto.input[:], proto.output[:]
    proto.input.extend(inputs)
    proto.output.extend(outputs)
    for name, attribute in schema.attributes.items():
        if name not in node.attrs and attribute.default_value.name:
            proto.attribute.append(attribute.default_value)
    return proto


def _spliced(node: gs.Node, body: gs.Graph) -> list[gs.Node]:
    """The nodes of the definition between the tensors that the node stood between."""
    prefix = node.outputs[0].name or node.name
    outer = {str(i): each for i, each in enumerate(node.inputs)}
    outer |= {f"out:{i}": each for i, each in enumerate(node.outputs)}
    node.inputs.clear()
    node.outputs.clear()
    for inner in body.nodes:
        for tensors in (inner.inputs, inner.outputs):
            for slot, each in enumerate(tensors):
                if each.name in outer:
                    tensors[slot] = outer[each.name]
        inner.name = f"{prefix}/{inner.name or inner.outputs[0].name}"
    for each in body.tensors().values():
        if each.name not in outer and not any(each is own for own in outer.values()):
            each.name = f"{prefix}/{each.name}"
    return list(body.nodes)
