"""Replace operators by the function bodies that ONNX defines them by, where a gradient needs it.

Assumes a canonical graph. Changes the chosen nodes of the graph in place: a body takes the place of its
operator, or a decomposition of the table if ONNX has no body (Stage.GRADIENT). Guarantees the same outputs and
the same names of the tensors that the operators write.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from onnx import defs, inliner
from onnx_graphsurgeon.exporters.onnx_exporter import OnnxExporter

from onnxcam.graph.operators import traits_named
from onnxcam.graph.opset import schema_at
from onnxcam.graph.shape_inference import type_proto
from onnxcam.passes import deform_conv, recurrent  # noqa: F401  add their rows to the table
from onnxcam.passes.canonicalize import canonicalize
from onnxcam.passes.decomposition import Stage, decompose, decomposed_operators

MASKS = {"3", "6"}  # the inputs of Attention that can mask a whole row: attn_mask, nonpad_kv_seqlen
FUNCTION_DOMAIN = "onnxcam.definition"  # of a function body until it is inlined


def has_function_body(operator: str, opset: int) -> bool:
    """Whether an operator of the default domain can be replaced by simpler ones."""
    if ("", operator) in decomposed_operators(Stage.GRADIENT):
        return True
    schema = schema_at(operator, opset)
    if schema is None or traits_named(operator).atomic:
        return False
    fixed, by_context = (
        schema.function_opset_versions,
        schema.context_dependent_function_opset_versions,
    )
    return any(version <= opset for version in (*fixed, *by_context))


def expand_functions(
    graph: gs.Graph, chosen: Collection[gs.Node], preserved: Collection[str] = ()
) -> bool:
    """Replace the chosen nodes of `graph` in place; False if none could be. The tensors whose names are in
    `preserved` still exist afterwards.
    """
    ids, changed, nodes = {id(node) for node in chosen}, False, []
    needed = {*preserved, *(output.name for output in graph.outputs)}
    for node in graph.nodes:
        body = _expand(node, graph, needed) if id(node) in ids else None
        nodes.extend([node] if body is None else body)
        changed = changed or body is not None
    if changed:
        graph.nodes = nodes
        canonicalize(graph, preserved)
    return changed


def _expand(node: gs.Node, graph: gs.Graph, needed: Collection[str]) -> list[gs.Node] | None:
    """The nodes that replace a node, which is disconnected; None if it stays."""
    if node.domain not in (None, "", "ai.onnx") or not has_function_body(node.op, graph.opset):
        return None
    types = [
        onnx.TypeProto() if tensor.is_empty() else type_proto(tensor) for tensor in node.inputs
    ]
    schema = schema_at(node.op, graph.opset)
    if schema is None or any(input_type is None for input_type in types):
        return None
    if ("", node.op) in decomposed_operators(Stage.GRADIENT):
        return decompose(node, graph, needed, {Stage.GRADIENT})
    body = _function_body(node, schema, graph.opset, types)
    return None if body is None else _splice(node, body)


def _function_body(
    node: gs.Node, schema: defs.OpSchema, opset: int, types: Sequence[onnx.TypeProto]
) -> gs.Graph | None:
    """The function body of a node as a graph with the inputs 0, 1, ... and the outputs out:0, out:1, ...; None
    if it has none at this opset, or one with branches or loops, through which no gradient passes: the error
    then names the operator itself.
    """
    call = _function_call(node, schema)
    function = _function_proto(call, schema, opset, types)
    function.domain = call.domain = FUNCTION_DOMAIN
    typed_inputs = zip(call.input, types, strict=True)
    inputs = [onnx.helper.make_value_info(name, kind) for name, kind in typed_inputs if name]
    outputs = [onnx.helper.make_empty_tensor_value_info(name) for name in call.output if name]
    model = onnx.helper.make_model(
        onnx.helper.make_graph([call], node.op, inputs, outputs),
        functions=[function],
        opset_imports=[
            onnx.helper.make_opsetid("", opset),
            onnx.helper.make_opsetid(FUNCTION_DOMAIN, 1),
        ],
    )
    inlined = inliner.inline_local_functions(model, convert_version=True)
    if any(inner.domain == FUNCTION_DOMAIN for inner in inlined.graph.node):
        return None
    if any(traits_named(inner.op_type).control_flow for inner in inlined.graph.node):
        return None
    body = gs.import_onnx(inlined)
    if node.op == "Attention":
        _bound_masked_scores(body)
    return body


def _bound_masked_scores(body: gs.Graph) -> None:
    """Raise -inf to the lowest finite number before the Softmax of a masked Attention, in place.

    The Softmax of a row that is masked completely is NaN. The body replaces it by 0 afterwards, but its
    gradient would be NaN. No other row changes.
    """
    if {tensor.name for tensor in body.inputs}.isdisjoint(MASKS):
        return
    nodes = []
    for node in body.nodes:
        if node.op == "Softmax" and (dtype := _cast_dtype(node.inputs[0])) is not None:
            lowest = gs.Constant("Lowest", np.array([np.finfo(dtype).min], dtype))
            finite = gs.Variable("Finite")
            nodes.append(gs.Node("Max", "Finite", {}, [node.inputs[0], lowest], [finite]))
            node.inputs[0] = finite
        nodes.append(node)
    body.nodes = nodes


def _cast_dtype(tensor: gs.Tensor) -> np.dtype[Any] | None:
    """The float dtype that a tensor was cast to; None for one that NumPy does not have."""
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.inputs[0].attrs["to"])
    return dtype if dtype.kind == "f" else None


def _function_proto(
    call: onnx.NodeProto, schema: defs.OpSchema, opset: int, types: Sequence[onnx.TypeProto]
) -> onnx.FunctionProto:
    """The newest function body that the opset has. Some operators write theirs for the types of the inputs."""
    fixed = schema.function_opset_versions
    if fixed:
        content = schema.get_function_with_opset_version(_newest(fixed, opset))
    else:
        content = schema.get_context_dependent_function_with_opset_version(
            _newest(schema.context_dependent_function_opset_versions, opset),
            call.SerializeToString(),
            [input_type.SerializeToString() for input_type in types],
        )
    return onnx.FunctionProto.FromString(content)


def _newest(versions: Sequence[int], opset: int) -> int:
    return max(version for version in versions if version <= opset)


def _function_call(node: gs.Node, schema: defs.OpSchema) -> onnx.NodeProto:
    """The node with working names, and with every default value written out: onnx's inliner ignores them."""
    proto = OnnxExporter.export_node(node)
    inputs = ["" if tensor.is_empty() else str(i) for i, tensor in enumerate(node.inputs)]
    outputs = ["" if tensor.is_empty() else f"out:{i}" for i, tensor in enumerate(node.outputs)]
    del proto.input[:], proto.output[:]
    proto.input.extend(inputs)
    proto.output.extend(outputs)
    for name, attribute in schema.attributes.items():
        if name not in node.attrs and attribute.default_value.name:
            proto.attribute.append(attribute.default_value)
    return proto


def _splice(node: gs.Node, body: gs.Graph) -> list[gs.Node]:
    """Connect a function body to the inputs and outputs of its node, in place; returns its nodes."""
    prefix = node.outputs[0].name or node.name
    outer = {str(i): tensor for i, tensor in enumerate(node.inputs)}
    outer |= {f"out:{i}": tensor for i, tensor in enumerate(node.outputs)}
    node.inputs.clear()
    node.outputs.clear()
    for inner in body.nodes:
        for tensors in (inner.inputs, inner.outputs):
            for slot, tensor in enumerate(tensors):
                if tensor.name in outer:
                    tensors[slot] = outer[tensor.name]
        inner.name = f"{prefix}/{inner.name or inner.outputs[0].name}"
    connected = {id(tensor) for tensor in outer.values()}
    for tensor in body.tensors().values():
        if tensor.name not in outer and id(tensor) not in connected:
            tensor.name = f"{prefix}/{tensor.name}"
    return list(body.nodes)
