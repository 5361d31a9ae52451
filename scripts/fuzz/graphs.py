"""Mutations of a model's structure. One that finds nothing to change raises IndexError or ValueError."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, defs, helper, numpy_helper

from scripts.fuzz import values

Mutation = Callable[[onnx.ModelProto, Random], None]

NAMES = (
    *("", "*", "(a+)+", "batch(", "a\nb", "\x1b[31mred", "\u202ecba", "x" * 3000, "seed", "x"),
    *("onnxcam/noise",),
)
DIMS = (
    *(-1, 0, 1, 2, 3, 5, 7, 64, 1 << 20, 1 << 31, 1 << 60, (1 << 63) - 1, -2, -(1 << 31)),
    *(-(1 << 63),),
)
PLACES = (
    *("weights", "../weights", "/dev/zero", "/dev/null", "/etc/hostname", "none", "", "."),
    *("up/../weights",),
)


def drop_node(proto: onnx.ModelProto, draw: Random) -> None:
    del proto.graph.node[draw.randrange(len(proto.graph.node))]


def duplicate_node(proto: onnx.ModelProto, draw: Random) -> None:
    node = draw.choice(proto.graph.node)
    proto.graph.node.append(node)
    if draw.random() < 0.5:
        proto.graph.node[-1].output[0] = "another"


def swap_nodes(proto: onnx.ModelProto, draw: Random) -> None:
    nodes = [helper.make_node("Identity", [], []) for _ in range(2)]
    first, second = draw.choice(proto.graph.node), draw.choice(proto.graph.node)
    for copy, node in zip(nodes, (first, second), strict=True):
        copy.CopyFrom(node)
    first.CopyFrom(nodes[1])
    second.CopyFrom(nodes[0])


def shuffle_nodes(proto: onnx.ModelProto, draw: Random) -> None:
    nodes = list(proto.graph.node)
    draw.shuffle(nodes)
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)


def rewire_input(proto: onnx.ModelProto, draw: Random) -> None:
    node = draw.choice(proto.graph.node)
    names = [name for other in proto.graph.node for name in other.output]
    names += [tensor.name for tensor in (*proto.graph.initializer, *proto.graph.input)]
    node.input[draw.randrange(len(node.input))] = draw.choice([*names, "", "nowhere"])


def change_inputs(proto: onnx.ModelProto, draw: Random) -> None:
    inputs = draw.choice(proto.graph.node).input
    match draw.randrange(4):
        case 0:
            inputs.pop()
        case 1:
            inputs.append(inputs[0])
        case 2:
            inputs.extend([""] * 5)
        case _:
            first, last = inputs[0], inputs[-1]
            inputs[0], inputs[-1] = last, first


def rename_output(proto: onnx.ModelProto, draw: Random) -> None:
    node = draw.choice(proto.graph.node)
    node.output[0] = draw.choice([*NAMES, *(other.output[0] for other in proto.graph.node)])


def rename_everywhere(proto: onnx.ModelProto, draw: Random) -> None:
    old = draw.choice([name for node in proto.graph.node for name in node.input if name])
    name = draw.choice(NAMES[1:])
    for node in proto.graph.node:
        for names in (node.input, node.output):
            for place, tensor in enumerate(names):
                if tensor == old:
                    names[place] = name
    for tensor in (*proto.graph.initializer, *proto.graph.input, *proto.graph.output):
        if tensor.name == old:
            tensor.name = name


def change_operator(proto: onnx.ModelProto, draw: Random) -> None:
    schema = draw.choice(defs.get_all_schemas())
    node = draw.choice(proto.graph.node)
    node.op_type, node.domain = draw.choice(
        [(schema.name, schema.domain), (node.op_type, "other"), ("None", "")]
    )


def change_name(proto: onnx.ModelProto, draw: Random) -> None:
    name = draw.choice(NAMES)
    target: Any = draw.choice(
        [proto.graph, *proto.graph.node, *proto.graph.input, *proto.graph.initializer]
    )
    target.name = name


def change_attribute(proto: onnx.ModelProto, draw: Random) -> None:
    node = draw.choice([node for node in proto.graph.node if node.attribute])
    place = draw.randrange(len(node.attribute))
    match draw.randrange(4):
        case 0:
            del node.attribute[place]
        case 1:
            node.attribute.append(node.attribute[place])
        case _:
            name = node.attribute[place].name
            node.attribute[place].CopyFrom(
                hostile_attribute(name, node.attribute[place].type, draw)
            )


def hostile_attribute(name: str, kind: int, draw: Random) -> onnx.AttributeProto:
    """An attribute with a hostile value, mostly of its own type."""
    types = onnx.AttributeProto
    if draw.random() < 0.15:
        kind = draw.choice(
            (types.INT, types.FLOAT, types.STRING, types.INTS, types.FLOATS, types.TENSOR)
        )
    attribute = onnx.AttributeProto(name=name, type=kind)
    match kind:
        case types.INT:
            attribute.i = values.integer(draw)
        case types.FLOAT:
            attribute.f = values.number(draw)
        case types.STRING:
            attribute.s = values.text(draw)
        case types.INTS:
            attribute.ints.extend(values.several_values(draw, values.integer))
        case types.FLOATS:
            attribute.floats.extend(values.several_values(draw, values.number))
        case types.STRINGS:
            attribute.strings.extend(values.several_values(draw, values.text))
        case types.TENSOR:
            attribute.t.CopyFrom(hostile_tensor(name, draw))
        case _ if draw.random() < 0.5:
            attribute.type = types.UNDEFINED
    return attribute


def hostile_tensor(name: str, draw: Random) -> TensorProto:
    """A small constant of any type, sometimes with a declared size that it does not have."""
    shape = tuple(draw.choice((0, 1, 2, 5)) for _ in range(draw.randrange(4)))
    kind = draw.choice((np.float32, np.float64, np.int64, np.int32, np.bool_, np.uint8, np.float16))
    number = values.integer if np.issubdtype(kind, np.integer) else values.number
    with np.errstate(all="ignore"):
        array = np.array([number(draw) for _ in range(int(np.prod(shape)))], object)
        if np.issubdtype(kind, np.integer):
            limits: Any = np.iinfo(np.dtype(kind))
            array = np.clip(array.astype(object), int(limits.min), int(limits.max))
        tensor = numpy_helper.from_array(array.astype(kind).reshape(shape), name)
    if draw.random() < 0.2:
        tensor.dims.append(draw.choice(DIMS))
    return tensor


def change_constant(proto: onnx.ModelProto, draw: Random) -> None:
    tensor = draw.choice(proto.graph.initializer)
    match draw.randrange(6):
        case 0:
            tensor.dims[draw.randrange(len(tensor.dims))] = draw.choice(DIMS)
        case 1:
            tensor.data_type = draw.randrange(30)
        case 2:
            tensor.raw_data = tensor.raw_data[: draw.randrange(len(tensor.raw_data))]
        case 3:
            proto.graph.initializer.remove(tensor)
        case 4:
            array = numpy_helper.to_array(tensor).copy()
            flat = array.reshape(-1)
            flat[draw.randrange(len(flat))] = draw.choice((0, 1e38, -1e38, np.nan, np.inf, 1e-38))
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
        case _:
            tensor.CopyFrom(hostile_tensor(tensor.name, draw))


def make_sparse(proto: onnx.ModelProto, draw: Random) -> None:
    tensor = draw.choice([tensor for tensor in proto.graph.initializer if len(tensor.dims) < 3])
    array = numpy_helper.to_array(tensor)
    stored = (
        np.flatnonzero(array)
        if draw.random() < 0.7
        else np.arange(3) + draw.choice((0, -1, 1 << 40))
    )
    content = numpy_helper.from_array(array.reshape(-1)[np.flatnonzero(array)], tensor.name)
    indices = numpy_helper.from_array(stored.astype(np.int64), "indices")
    proto.graph.sparse_initializer.append(helper.make_sparse_tensor(content, indices, array.shape))
    proto.graph.initializer.remove(tensor)


def make_external(proto: onnx.ModelProto, draw: Random) -> None:
    tensor = draw.choice(proto.graph.initializer)
    size = len(tensor.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    fields = {"location": draw.choice(PLACES)}
    if draw.random() < 0.7:
        fields["offset"] = str(draw.choice((0, 4, 4096, -1, 1 << 40, "x", "")))
    if draw.random() < 0.7:
        fields["length"] = str(draw.choice((size, size, size - 1, 0, -1, 1 << 32, 1 << 62, "x")))
    for key, value in fields.items():
        tensor.external_data.add(key=key, value=value)


def change_size(proto: onnx.ModelProto, draw: Random) -> None:
    tensor = draw.choice([*proto.graph.input, *proto.graph.output, *proto.graph.value_info])
    shape = tensor.type.tensor_type.shape
    match draw.randrange(6):
        case 0:
            tensor.type.tensor_type.ClearField("shape")
        case 1:
            tensor.type.tensor_type.elem_type = draw.randrange(28)
        case 2:
            del shape.dim[draw.randrange(len(shape.dim))]
        case 3:
            draw.choice(shape.dim).dim_param = draw.choice(NAMES)
        case _:
            draw.choice(shape.dim).dim_value = draw.choice(DIMS)


def add_sizes(proto: onnx.ModelProto, draw: Random) -> None:
    name = draw.choice([name for node in proto.graph.node for name in node.output])
    shape = [draw.choice((*DIMS, "N", "batch(", None)) for _ in range(draw.randrange(6))]
    proto.graph.value_info.append(
        helper.make_tensor_value_info(name, draw.choice((1, 1, 7, 10, 11)), shape)
    )


def change_ends(proto: onnx.ModelProto, draw: Random) -> None:
    graph = proto.graph
    some = draw.choice([name for node in graph.node for name in node.output])
    match draw.randrange(6):
        case 0:
            graph.input.append(
                helper.make_tensor_value_info(draw.choice((some, "unread")), 1, [1, 3, 8, 8])
            )
        case 1:
            graph.output.append(helper.make_tensor_value_info(some, 1, None))
        case 2:
            graph.output.insert(0, helper.make_tensor_value_info(some, 1, None))
        case 3:
            del graph.output[:]
        case 4:
            graph.input.append(graph.input[0])
        case _:
            graph.output.append(graph.input[0])


def change_versions(proto: onnx.ModelProto, draw: Random) -> None:
    match draw.randrange(5):
        case 0:
            proto.ir_version = draw.choice((0, 1, 3, 4, 13, 14, 99, -1))
        case 1:
            proto.opset_import[0].version = draw.choice(
                (0, -1, 1, 6, 7, 8, 11, 12, 13, 14, 20, 22, 25, 40, 1 << 40)
            )
        case 2:
            proto.opset_import.append(helper.make_opsetid("ai.onnx", draw.choice((7, 13, 17, 25))))
        case 3:
            del proto.opset_import[:]
        case _:
            proto.opset_import[0].domain = draw.choice(
                ("ai.onnx", "com.microsoft", "ai.onnx.ml", "other")
            )


MUTATIONS: tuple[Mutation, ...] = (
    *(drop_node, duplicate_node, swap_nodes, shuffle_nodes, rewire_input, change_inputs),
    *(rename_output, rename_everywhere, change_operator, change_name, change_attribute),
    *(change_attribute, change_constant, change_constant, make_sparse, make_external),
    *(change_size, change_size, add_sizes, change_ends, change_versions),
)
