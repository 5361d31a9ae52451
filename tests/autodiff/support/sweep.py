"""Gradients as the sweep writes them, before the peephole pass."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from onnx import TensorProto, helper, numpy_helper

from onnxcam.autodiff.backward import backward
from onnxcam.autodiff.reference import write_reference
from onnxcam.autodiff.rule_table import Rules
from onnxcam.autodiff.rules import DEFAULT
from onnxcam.graph.tracing import Builder
from onnxcam.model.load import load
from onnxcam.model.model import Model
from onnxcam.specs import SEED, gradient_at
from tests.autodiff.support.check import model_from_graph, with_output_types

Line = tuple[Any, ...]  # operator, the tensors that it reads and writes, attributes


def unoptimized_gradient(
    proto: onnx.ModelProto, wrt: Sequence[str], of: str, rules: Rules = DEFAULT
) -> tuple[Model, int]:
    """The model with its gradient, and the position of the first node of this."""
    model = load(proto)
    build = Builder(model.graph)
    image = model.graph.inputs[0].name
    score = build.value(of)
    seed = build.input(SEED, score.dtype, score.shape)
    reference = write_reference(build, image, of) if rules.needs_reference else None
    start = len(model.graph.nodes)
    cotangents = backward(build, {of: seed}, wrt, rules, reference)
    for name in wrt:
        build.output(cotangents[name], gradient_at(name))
    return model, start


def model_of(
    lines: Sequence[Line],
    constants: Mapping[str, Any],
    inputs: Mapping[str, Sequence[int | str]],
    opset: int = 17,
) -> onnx.ModelProto:
    """A float32 model of lines `(operator, "inputs", "output", attributes)`; it returns the last output."""
    nodes = [
        helper.make_node(
            operator, read.split(), [written], name=written, **(rest[0] if rest else {})
        )
        for operator, read, written, *rest in lines
    ]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in inputs.items()
    ]
    rank = len(next(iter(inputs.values())))
    y = helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, [None] * rank)
    stored = [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()]
    return with_output_types(
        model_from_graph(helper.make_graph(nodes, "net", ends, [y], stored), opset)
    )


def lines_of(nodes: Sequence[gs.Node]) -> list[tuple[Any, ...]]:
    """What nodes are: operator, tensors by name, attributes."""
    return [
        (
            node.op,
            tuple(tensor.name for tensor in node.inputs),
            tuple(tensor.name for tensor in node.outputs),
            repr(node.attrs),
        )
        for node in nodes
    ]
