"""Mutations that put nodes into functions and subgraphs, and models of a few kilobytes that grow."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import numpy as np
import onnx
from onnx import helper, numpy_helper


def put_into_function(proto: onnx.ModelProto, draw: Random) -> None:
    node = draw.choice(proto.graph.node)
    inputs, outputs = [name for name in dict.fromkeys(node.input) if name], list(node.output)
    inner = helper.make_node("Identity", [], [])
    inner.CopyFrom(node)
    body = [inner]
    match draw.randrange(6):
        case 0:
            inner.op_type, inner.domain = "Own", "local"  # calls itself
        case 1:
            inputs = inputs[:-1]
        case 2:
            body = []
        case _:
            pass
    opsets = list(proto.opset_import) if draw.random() < 0.8 else [helper.make_opsetid("", 99)]
    proto.functions.append(helper.make_function("local", "Own", inputs, outputs, body, opsets))
    proto.opset_import.append(helper.make_opsetid("local", 1))
    del node.attribute[:], node.input[:]
    node.input.extend(inputs)
    node.op_type, node.domain = "Own", "local"


def put_into_branch(proto: onnx.ModelProto, draw: Random) -> None:
    """A node becomes an If or a Loop that holds it."""
    node = draw.choice(proto.graph.node)
    inner = helper.make_node("Identity", [], [])
    inner.CopyFrom(node)
    result = [f"{name}_inner" for name in node.output]
    del inner.output[:]
    inner.output.extend(result)
    outputs = [helper.make_tensor_value_info(name, 1, None) for name in result]
    del node.attribute[:], node.input[:]
    node.domain = ""
    if draw.random() < 0.5:
        node.op_type = "If"
        node.input.append(_constant(proto, np.array(draw.random() < 0.5)))
        body = helper.make_graph([inner], "branch", [], outputs)
        node.attribute.extend(
            helper.make_attribute(f"{name}_branch", body) for name in ("then", "else")
        )
        return
    count, more = draw.choice((0, 1, 2, 1 << 40, -1)), [("i", 7), ("c", 9)]
    inputs = [helper.make_tensor_value_info(name, kind, []) for name, kind in more]
    ends = [helper.make_tensor_value_info("c", 9, []), *outputs]
    node.op_type = "Loop"
    node.input.extend([_constant(proto, np.array(count)) if draw.random() < 0.8 else "", ""])
    node.attribute.append(
        helper.make_attribute("body", helper.make_graph([inner], "body", inputs, ends))
    )


def _constant(proto: onnx.ModelProto, array: np.ndarray) -> str:
    name = f"constant{len(proto.graph.initializer)}"
    proto.graph.initializer.append(numpy_helper.from_array(array, name))
    return name


def _before_score(proto: onnx.ModelProto, nodes: list[onnx.NodeProto], result: str) -> None:
    """Insert nodes, and merge their result into the last node's input, so that the score depends on them."""
    last = proto.graph.node[-1]
    source = last.input[0]
    nodes = [*nodes, helper.make_node("Max", [source, result], ["bombed"])]
    last.input[0] = "bombed"
    for node in nodes:
        proto.graph.node.insert(len(proto.graph.node) - 1, node)


def doubling(proto: onnx.ModelProto, draw: Random) -> None:
    """A constant that is doubled thirty times."""
    start = _constant(proto, np.ones((1, 6), np.float32))
    operator = draw.choice(("Concat", "Tile", "Add", "Expand"))
    names = [start, *(f"double{step}" for step in range(30))]
    nodes = []
    for before, after in pairwise(names):
        if operator == "Concat":
            nodes.append(helper.make_node("Concat", [before, before], [after], axis=0))
        elif operator == "Tile":
            nodes.append(
                helper.make_node("Tile", [before, _constant(proto, np.array([2, 1]))], [after])
            )
        elif operator == "Expand":
            nodes.append(
                helper.make_node(
                    "Expand", [before, _constant(proto, np.array([1 << 30, 6]))], [after]
                )
            )
            break
        else:
            nodes.append(helper.make_node("Add", [before, before], [after]))
    nodes.append(helper.make_node("ReduceMax", [nodes[-1].output[0]], ["largest"], keepdims=0))
    _before_score(proto, nodes, "largest")


def huge_constant(proto: onnx.ModelProto, draw: Random) -> None:
    """A node that makes something large of a few bytes."""
    size = draw.choice((1 << 28, 1 << 31, 1 << 40, (1 << 62)))
    if draw.random() < 0.5:
        nodes = [
            helper.make_node("ConstantOfShape", [_constant(proto, np.array([size]))], ["huge"])
        ]
    else:
        limits = [_constant(proto, np.array(number, np.float32)) for number in (0, size, 1)]
        nodes = [helper.make_node("Range", limits, ["huge"])]
    nodes.append(helper.make_node("ReduceMax", ["huge"], ["largest"], keepdims=0))
    _before_score(proto, nodes, "largest")


def nested_functions(proto: onnx.ModelProto, draw: Random) -> None:
    """Functions that each call the next twice."""
    opsets = [*proto.opset_import, helper.make_opsetid("local", 1)]
    depth = draw.choice((5, 12, 20, 60))
    for level in range(depth):
        called, domain = (f"F{level + 1}", "local") if level + 1 < depth else ("Tanh", "")
        body = [
            helper.make_node(called, ["a"], ["b"], domain=domain),
            helper.make_node(called, ["b"], ["c"], domain=domain),
        ]
        proto.functions.append(
            helper.make_function("local", f"F{level}", ["a"], ["c"], body, opsets)
        )
    proto.opset_import.append(helper.make_opsetid("local", 1))
    last = proto.graph.node[-1]
    node = helper.make_node("F0", [last.input[0]], ["nested"], domain="local")
    last.input[0] = "nested"
    proto.graph.node.insert(len(proto.graph.node) - 1, node)


NESTING = (put_into_function, put_into_branch)
BOMBS = (doubling, huge_constant, nested_functions)
