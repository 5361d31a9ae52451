"""Keep gradients in half precision from vanishing and overflowing.

A float16 below 6e-8 is zero, and the gradient of one class at one of thousands of neurons often is smaller. As
in mixed-precision training (Micikevicius et al. 2018, arXiv:1710.03740) the cotangent is multiplied by a power
of two, which is exact, and the gradient divided by it in float32. bfloat16 has the range of float32.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from onnxcam.arrays import FLOAT32
from onnxcam.autodiff.backward import propagates
from onnxcam.autodiff.rule_table import Rules
from onnxcam.graph.opset import type_code
from onnxcam.graph.reachability import subgraph_between
from onnxcam.graph.shape_inference import Dtype
from onnxcam.graph.tracing import Value

SCALE = 2.0**10  # allows seeds up to 63; the layers may amplify them by as much
SCALE_OF_SCORE = (
    2.0**4
)  # of a cotangent that starts as a part of the score: allows scores up to 4,000
HALVES = {"float16", "bfloat16"}


def accumulation_dtype(dtype: Dtype) -> Dtype:
    """float32 for a half precision; other dtypes are returned unchanged."""
    return FLOAT32 if _dtype_name(dtype) in HALVES else dtype


def loss_scale(graph: gs.Graph, wrt: Collection[str], of: str, rules: Rules) -> float:
    """The factor of the cotangents: more than 1 if there is a float16 tensor on the way."""
    path, tensors = subgraph_between(graph, wrt, {of}, propagates(rules)), graph.tensors()
    dtypes = (tensors[name].dtype for name in path.tensors)
    if not any(_dtype_name(dtype) == "float16" for dtype in dtypes):
        return 1.0
    return SCALE_OF_SCORE if rules.start else SCALE


def apply_loss_scale(value: Value, factor: float) -> Value:
    """The value times a factor; the value itself if the factor is 1."""
    return value if factor == 1.0 else value * factor


def sum_in_float32(graph: gs.Graph) -> None:
    """Change every ScatterElements that adds float16 to add in float32, in place: ONNX Runtime's CPU provider
    accepts float16 when it opens the model, but fails when it runs it.
    """
    nodes: list[gs.Node] = []
    for node in graph.nodes:
        is_sum = node.op == "ScatterElements" and node.attrs.get("reduction", "none") != "none"
        if not is_sum or _dtype_name(node.inputs[0].dtype) != "float16":
            nodes.append(node)
            continue
        for slot in (0, 2):
            nodes.append(_cast(node.inputs[slot], FLOAT32, f"{node.name}/{slot}"))
            node.inputs[slot] = nodes[-1].outputs[0]
        narrow = node.outputs[0]
        wide = gs.Variable(f"{node.name}/wide", FLOAT32, narrow.shape)
        node.outputs.clear()
        node.outputs.append(wide)
        nodes.append(node)
        nodes.append(_cast(wide, np.dtype(np.float16), f"{node.name}/narrow", narrow))
    graph.nodes = nodes


def _cast(
    tensor: gs.Tensor, dtype: np.dtype[Any], name: str, output: gs.Variable | None = None
) -> gs.Node:
    if output is None:
        output = gs.Variable(name, dtype, tensor.shape)
    return gs.Node("Cast", name, {"to": type_code(dtype)}, [tensor], [output])


def _dtype_name(dtype: Dtype | None) -> str:
    if dtype is None:
        return ""
    if isinstance(dtype, int):
        return str(onnx.TensorProto.DataType.Name(dtype)).lower()
    return str(np.dtype(dtype))
