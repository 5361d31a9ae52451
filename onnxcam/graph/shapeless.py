"""Inputs and outputs that tell no shape: ONNX Runtime takes them, ONNX's checker does not."""

from __future__ import annotations

import onnx
from onnx import shape_inference

KEEPING = {  # the rank; what stands between a picture and the first operator that tells of it
    *("Identity", "Cast", "Add", "Sub", "Mul", "Div", "Clip", "Pad", "QuantizeLinear"),
    *("DequantizeLinear", "Neg"),
}


def shaped(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The model with as many free axes for each such input as the operators that read it take, and with the
    outputs that follow; an input that none of them tells of stays as it is.
    """
    graph = proto.graph
    bare = [each for each in graph.input if _is_bare(each)]
    for tensor in bare:
        for _ in range(_rank(graph, tensor.name)):
            tensor.type.tensor_type.shape.dim.add()
    if not bare and not any(map(_is_bare, graph.output)):
        return proto
    return shape_inference.infer_shapes(proto)


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
        if node.op_type in KEEPING:
            alike.update(node.output)
    return 0


def _taken(node: onnx.NodeProto, weights: dict[str, int]) -> int:
    """How many axes the operator's first input has to have, 0 where it takes any."""
    given = {each.name: each for each in node.attribute}
    if node.op_type in ("Conv", "ConvTranspose") and node.input[1] in weights:
        return weights[node.input[1]]
    if "kernel_shape" in given:
        return 2 + len(given["kernel_shape"].ints)
    return len(given["perm"].ints) if "perm" in given else 0
