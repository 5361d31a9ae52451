"""Inputs and outputs without a shape: ONNX Runtime accepts them, ONNX's checker does not."""

from __future__ import annotations

import onnx
from onnx import checker

from onnxcam.graph.operators import traits_named


def give_ranks(graph: onnx.GraphProto) -> None:
    """Give every input without a shape as many free axes as the operators that read it require, in place. An
    input whose readers accept any rank stays as it is.
    """
    for tensor in filter(_has_no_shape, graph.input):
        for _ in range(_required_rank(graph, tensor.name)):
            tensor.type.tensor_type.shape.dim.add()


def check_model(proto: onnx.ModelProto) -> None:
    """Run ONNX's checker, but accept outputs without a shape. Raises what the checker raises."""
    shapeless = [tensor for tensor in proto.graph.output if _has_no_shape(tensor)]
    for tensor in shapeless:
        tensor.type.tensor_type.shape.SetInParent()
    try:
        checker.check_model(proto)
    finally:
        for tensor in shapeless:
            tensor.type.tensor_type.ClearField("shape")


def _has_no_shape(tensor: onnx.ValueInfoProto) -> bool:
    kind = tensor.type
    return kind.HasField("tensor_type") and not kind.tensor_type.HasField("shape")


def _required_rank(graph: onnx.GraphProto, name: str) -> int:
    """The rank that the first operator requires that needs one of an input, or of what has the same rank; 0 if
    no operator does.
    """
    weight_ranks = {tensor.name: len(tensor.dims) for tensor in graph.initializer}
    same_rank = {name}
    for node in graph.node:
        if not same_rank & set(node.input[:1]):
            continue
        if rank := _rank_of_first_input(node, weight_ranks):
            return rank
        if _keeps_rank(node):
            same_rank.update(node.output)
    return 0


def _keeps_rank(node: onnx.NodeProto) -> bool:
    traits = traits_named(node.op_type, node.domain)
    return traits.elementwise is not None or traits.moves == "pad"


def _rank_of_first_input(node: onnx.NodeProto, weight_ranks: dict[str, int]) -> int:
    """The rank that an operator's first input has to have, 0 if it may be any."""
    attributes = {attribute.name: attribute for attribute in node.attribute}
    if node.op_type in ("Conv", "ConvTranspose") and node.input[1] in weight_ranks:
        return weight_ranks[node.input[1]]
    if "kernel_shape" in attributes:
        return 2 + len(attributes["kernel_shape"].ints)
    return len(attributes["perm"].ints) if "perm" in attributes else 0
