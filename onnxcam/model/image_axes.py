"""Give an image input four axes: models may take one image without a batch axis, gray images without a channel
axis, or images as flat rows. What follows then reads all of them as (N, C, H, W) or (N, H, W, C).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from onnxcam.graph.node_errors import reports_node
from onnxcam.model.fixed_size import fix_size
from onnxcam.model.input_forms import Form, Size, constant_numbers, form_of
from onnxcam.model.load import model_from_proto
from onnxcam.model.model import Model
from onnxcam.model.proto.declared_sizes import declared_dims
from onnxcam.model.proto.walk import nested_scopes

AXES_ARE_AN_INPUT_FROM = 13  # of Squeeze and Unsqueeze
NOT_NUMBERS = (onnx.TensorProto.UNDEFINED, onnx.TensorProto.STRING, onnx.TensorProto.BOOL)


@reports_node
def for_images(model: Model, size: Size | None = None) -> Model:
    """The model with an input of four axes, if its only input holds images in another form, and with a fixed
    number of recurrent steps. `size` (height, width) is that of the images, if it is named.

    SettingError for a size that the model does not take.
    """
    ranks = [len(tensor.shape or ()) for tensor in model.graph.inputs]
    if len(ranks) == 1 and 1 <= ranks[0] < len("NCHW"):
        proto, weights = model.proto_and_weights()
        if notices := give_image_axes(proto, model.name, size, weights):
            notices = (*model.notices, *notices)
            rebuilt = model_from_proto(proto, model.name, model.digest, notices, weights)
            model = replace(rebuilt, inputs=model.inputs)
    return fix_size(model, size)


def give_image_axes(
    proto: onnx.ModelProto, model: str, size: Size | None, weights: Collection[str] = ()
) -> tuple[str, ...]:
    """Give the only input of a model four axes, in place, if it can hold images in another form. Its outputs
    get a batch axis if it has none. Returns notices. SettingError for a size that does not fit flat images.
    `weights` names inputs that represent weights.
    """
    graph = proto.graph
    defaults = {*weights, *(tensor.name for tensor in graph.initializer)}
    inputs = [tensor for tensor in graph.input if tensor.name not in defaults]
    is_numeric = len(inputs) == 1 and inputs[0].type.tensor_type.elem_type not in NOT_NUMBERS
    form = form_of(graph, inputs[0], size, model) if is_numeric and _opset(proto) else None
    if form is None:
        return ()
    dims = declared_dims(inputs[0]) or ()
    _widen_input(proto, inputs[0], form)
    if not form.has_batch:
        for output in list(graph.output):
            _add_batch_axis(proto, output)
    shape = ", ".join("any" if dim is None else str(dim) for dim in dims)
    batch = "" if form.has_batch else "; it takes one image at a time"
    return (f"the input {inputs[0].name!r} ({shape}) holds {form.text}{batch}",)


def _widen_input(proto: onnx.ModelProto, tensor: onnx.ValueInfoProto, form: Form) -> None:
    """Replace the input by one with four axes, of the same name, in place."""
    graph, name = proto.graph, tensor.name
    inner = _unused_name(graph, f"{name}/as_exported")
    for scope in nested_scopes(graph):
        for node in scope.node:
            _replace(node.input, name, inner)
        for output in scope.output:
            output.name = inner if output.name == name and scope is not graph else output.name
    for value in (*graph.output, *graph.value_info):
        value.name = inner if value.name == name else value.name
    nodes = [*_shortcuts(graph, name, inner, form), *_convert(proto, name, inner, form)]
    rest = [*graph.node]
    del graph.node[:]
    graph.node.extend([*nodes, *rest])
    shape = tensor.type.tensor_type.shape
    del shape.dim[:]
    for dim in form.dims:
        added = shape.dim.add()
        if isinstance(dim, int):
            added.dim_value = dim
        elif dim:
            added.dim_param = dim


def _shortcuts(
    graph: onnx.GraphProto, name: str, inner: str, form: Form
) -> Iterator[onnx.NodeProto]:
    """Let Reshapes of the flat images into the same four axes read the images themselves, in place."""
    for node in [*graph.node] if form.target else []:
        if node.op_type == "Reshape" and node.input[:1] == [inner] and len(node.input) > 1:
            target = constant_numbers(graph, node.input[1])
            if target is not None and tuple(target[1:]) == form.dims[1:] and len(target) == 4:
                graph.node.remove(node)
                yield helper.make_node("Identity", [name], list(node.output), node.name)


def _convert(proto: onnx.ModelProto, name: str, inner: str, form: Form) -> Iterator[onnx.NodeProto]:
    """The node that writes what the model takes from the images."""
    if form.target:
        target = _add_constant(proto.graph, f"{inner}/shape", form.target)
        yield helper.make_node("Reshape", [name, target], [inner], inner)
    else:
        yield _with_axes(proto, "Squeeze", name, inner, form.squeezed)


def _add_batch_axis(proto: onnx.ModelProto, output: onnx.ValueInfoProto) -> None:
    """Give an output a batch axis, in place, unless it begins with one of size 1."""
    graph, name, dims = proto.graph, output.name, declared_dims(output)
    if dims is None or (len(dims) > 1 and dims[0] == 1):
        return
    inner = _unused_name(graph, f"{name}/of_one_image")
    for scope in nested_scopes(graph):
        for node in scope.node:
            _replace(node.input, name, inner)
            _replace(node.output, name, inner)
    graph.node.append(_with_axes(proto, "Unsqueeze", inner, name, (0,)))
    shape = onnx.TensorShapeProto()
    shape.dim.add().dim_value = 1
    shape.dim.extend(output.type.tensor_type.shape.dim)
    output.type.tensor_type.shape.CopyFrom(shape)


def _with_axes(
    proto: onnx.ModelProto, operator: str, source: str, output: str, axes: Sequence[int]
) -> onnx.NodeProto:
    name = f"{output}/{operator}"
    if _opset(proto) < AXES_ARE_AN_INPUT_FROM:
        return helper.make_node(operator, [source], [output], name, axes=list(axes))
    constant = _add_constant(proto.graph, f"{name}/axes", axes)
    return helper.make_node(operator, [source, constant], [output], name)


def _opset(proto: onnx.ModelProto) -> int:
    """The version of the default domain; 0 if the model names none."""
    return next(
        (known.version for known in proto.opset_import if known.domain in ("", "ai.onnx")), 0
    )


def _add_constant(graph: onnx.GraphProto, stem: str, numbers: Sequence[int]) -> str:
    name = _unused_name(graph, stem)
    graph.initializer.append(numpy_helper.from_array(np.array(numbers, np.int64), name))
    return name


def _replace(names: Any, old: str, new: str) -> None:
    """Replace a name in a list of a protocol buffer, in place."""
    for slot, name in enumerate(names):
        if name == old:
            names[slot] = new


def _unused_name(graph: onnx.GraphProto, stem: str) -> str:
    taken = {tensor.name for tensor in (*graph.input, *graph.initializer, *graph.value_info)}
    taken |= {name for node in graph.node for name in (*node.input, *node.output)}
    name, count = stem, 0
    while name in taken:
        count += 1
        name = f"{stem}_{count}"
    return name
