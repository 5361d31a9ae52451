"""Inputs and outputs that tell no shape: ONNX Runtime takes them, ONNX's checker does not."""

from __future__ import annotations

import onnx
from onnx import checker

from onnxcam.graph.operators import traits_named


def give_ranks(graph: onnx.GraphProto) -> None:
    """Give each such input as many free axes as the operators that read it require, in place; an input whose
    readers take any rank stays as it is.
    """
    for tensor in filter(_is_bare, graph.input):
        for _ in range(_rank(graph, tensor.name)):
            tensor.type.tensor_type.shape.dim.add()


def check_model(proto: onnx.ModelProto) -> None:
    """Run ONNX's checker, but accept outputs without a shape. Raises what the checker raises."""
    bare = [tensor for tensor in proto.graph.output if _is_bare(tensor)]
    for tensor in bare:
        tensor.type.tensor_type.shape.SetInParent()
    try:
        checker.check_model(proto)
    finally:
        for tensor in bare:
            tensor.type.tensor_type.ClearField("shape")


def _is_bare(tensor: onnx.ValueInfoProto) -> bool:
    kind = tensor.type
    return kind.HasField("tensor_type") and not kind.tensor_type.HasField("shape")


def _rank(graph: onnx.GraphProto, name: str) -> int:
    """Of the input, 0 where no operator tells it."""
    weights = {each.name: len(each.dims) for each in graph.initializer}
    alike = {name}
    for node in graph.node:
        if not alike & set(node.input[:1]):
            continue
        if rank := _taken(node, weights):
            return rank
        if _keeps_rank(node):
            alike.update(node.output)
    return 0


def _keeps_rank(node: onnx.NodeProto) -> bool:
    traits = traits_named(node.op_type, node.domain)
    return traits.elementwise is not None or traits.moves == "pad"


def _taken(node: onnx.NodeProto, weights: dict[str, int]) -> int:
    """How many axes the operator's first input has to have, 0 where it takes any."""
    given = {each.name: each for each in node.attribute}
    if node.op_type in ("Conv", "ConvTranspose") and node.input[1] in weights:
        return weights[node.input[1]]
    if "kernel_shape" in given:
        return 2 + len(given["kernel_shape"].ints)
    return len(given["perm"].ints) if "perm" in given else 0
